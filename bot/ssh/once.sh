# A command that starts at most once, under a POSIX sh (dash, bash, busybox ash) that reads this from standard input.
#
# In front of this stand `state.sh`, `output.sh`, and:
#   sb_mode     run: the first time · resume: sent before · ask: the same, but if it never began, see that it never does ·
#               kill: end it, and the same
#   sb_id       what the command is known by, X/ID  sb_user   part of the directory's name
#   sb_nonce    marks our lines in the answer       sb_age    seconds since it was first sent
#   sb_limit    seconds it may run                  sb_grace  seconds between TERM and KILL
#   sb_places   state directories, as sh words      sb_boot_id, sb_uptime, sb_init  files of /proc
#   sb_head     bytes of the beginning of an output that must be kept, and sb_tail of its end
#   sb_at_out   byte of the output that is wanted first, the ones before it were seen; and sb_at_err
#   sb_command  values from outside, then the author's text
#
# The process that claims is the one that waits for the command, and leads the process group it runs in. What the
# command writes goes to files by processes that know nothing of the link, so no link can hold it up.
#
# Answers are lines "NONCE WORD ...". "NONCE out N" is followed by bytes of the output from byte N on, up to the next
# such line; the same for err. A byte may come twice, with its number. A whole answer ends with "NONCE end": what lacks
# it was cut on the way.

sb_say() {
	printf '\n%s %s\n' "$sb_nonce" "$*"
}

# Says all that is known: word, exit code, whether the outputs are complete.
sb_report() {
	sb_lack=${sb_late:-whole}
	[ -e "$sb_file.out.full" ] || [ -e "$sb_file.err.full" ] && sb_lack=full
	# What was killed before it began has no output; what ended by itself had one, and who cleans up is not always us.
	if [ ! -e "$sb_file.out.$sb_one" ] || [ ! -e "$sb_file.err.$sb_one" ]; then
		[ ! -e "$sb_file.gone" ] && { [ "$2" = - ] || [ "$2" = KILL ]; } || sb_lack=gone
	fi
	sb_say "$1" "$2" "$sb_lack"
	sb_news all 2>/dev/null
	sb_say end
}

# Runs the command, and writes down how it ended before anything is said about it.
sb_run() {
	trap '' TERM HUP INT PIPE
	trap 'sb_weigh; exit 0' USR1
	sb_say STARTED
	# With exec, or dash would keep the link open in there.
	(
		exec <"$sb_pipe.o" >/dev/null 2>&1
		sb_store "$sb_file.out"
	) &
	sb_out=$!
	(
		exec <"$sb_pipe.e" >/dev/null 2>&1
		sb_store "$sb_file.err"
	) &
	sb_err=$!
	(
		trap - TERM HUP INT PIPE
		unset sb_nonce
		eval "$sb_command"
	) </dev/null >"$sb_pipe.o" 2>"$sb_pipe.e" &
	sb_job=$!
	sb_tell </dev/null 2>/dev/null &
	sb_teller=$!
	[ "$sb_due" = no ] || (
		exec </dev/null >/dev/null 2>&1
		sb_tidy
	) &
	wait "$sb_job"
	sb_code=$?
	true >"$sb_file.rc.$sb_code"
	# A full disk may have no room for that, but then for nobody.
	if sb_voice || [ ! -e "$sb_file.told" ]; then
		kill -KILL "$sb_teller"
		sb_say ENDED "$sb_code"
		wait "$sb_out" "$sb_err"
		sb_report DONE "$sb_code"
	else
		kill -USR2 "$sb_teller"
		wait "$sb_out" "$sb_err"
		kill -USR1 "$sb_teller"
		wait "$sb_teller"
	fi 2>/dev/null
	sb_weigh
	sb_let_go "$sb_file.out.done" "$sb_file.err.done" "$sb_file.told"
	sb_spare
}

# Takes the right to tell how it goes on, which only one may have.
sb_voice() {
	set -C
	{ true >"$sb_file.told"; } 2>/dev/null
	sb_rest=$?
	set +C
	return $sb_rest
}

# Tells what it writes while it runs; begins when it has run for a moment, so that most cost nothing.
sb_tell() {
	sb_whole= sb_said= sb_n=0 sb_pid=$$ sb_started=$sb_begin
	# Until it has said something it may be ended as well as not.
	trap - TERM
	sb_nap 50
	trap '' TERM
	# Signals only hurry us: bash loses one now and then.
	trap : USR2
	trap 'sb_whole=yes' USR1
	sb_voice || exit
	# Who does not listen any more ends this.
	trap - PIPE
	while :; do
		sb_alive || exit
		if [ -z "$sb_said" ] && sb_ended; then
			sb_said=yes
			sb_say ENDED "$sb_code"
		fi
		[ -n "$sb_said" ] && { [ -n "$sb_whole" ] || sb_stored; } && break
		[ -z "$sb_whole" ] || exit
		sb_news
		sb_n=$((sb_n + 1)) sb_gap=0.2
		[ -z "$sb_coarse" ] && [ "$sb_n" -lt 50 ] || sb_gap=1
		sb_pause "$sb_gap" &
		# A signal ends this, but not the sleep.
		wait "$!"
	done
	sb_report DONE "$sb_code"
}

# A sleep that, unlike us, ends when all is to end.
sb_pause() {
	(
		trap - TERM
		exec sleep "$1" >/dev/null 2>&1
	)
}

# Answers when there is nothing to wait for: the command never ran, or nobody can know, and it never will.
sb_never() {
	case $sb_kind in
	void) sb_say VOID ;;
	forgotten) sb_say FORGOTTEN ;;
	*) return 1 ;;
	esac
	sb_say end
}

# Waits for somebody else's run of the same command. Returns 1 when its claim was taken back.
sb_attach() {
	sb_read || return 1
	sb_never && return 0
	sb_n=0 sb_looks=0
	while [ -e "$sb_file.claim" ]; do
		sb_clock
		if sb_ended; then
			sb_drain
			sb_report DONE "$sb_code"
		elif [ "$sb_booted" != "$sb_boot" ]; then
			sb_report REBOOTED -
		elif ! sb_alive; then
			sb_ended && continue
			sb_report LOST -
		elif [ $((sb_now - sb_since)) -ge "$sb_limit" ]; then
			sb_report RUNNING -
		else
			sb_looks=$((sb_looks + 1))
			if [ "$sb_n" -lt 100 ]; then
				[ $((sb_looks % 4)) -ne 0 ] || sb_news 2>/dev/null
				sb_nap 05
				continue
			fi
			sb_news 2>/dev/null
			# A word now and then, or it would not be noticed that nobody listens any more.
			[ $((sb_looks % 32)) -ne 0 ] || sb_say more
			if [ "$sb_n" -lt 1000 ]; then sb_nap 20; else sleep 1; fi
			continue
		fi
		return 0
	done
	return 1
}

# Is a process of the group left? One that is dead and not yet buried by its parent does not count.
sb_left() {
	# Looking at every process takes a while: only now and then, and where all that may be left is another user's.
	kill -0 "-$sb_pid" 2>/dev/null && [ $((sb_n % 50)) -ne 0 ] && return 0
	for sb_stat in /proc/[0-9]*; do
		sb_process "${sb_stat#/proc/}" && [ "$sb_group" = "$sb_pid" ] && return 0
	done
	return 1
}

# Waits until no process of the group is left, for $1 hundredths of a second.
sb_gone() {
	sb_n=0
	while sb_left; do
		[ "$sb_n" -lt "$1" ] || return 1
		sb_nap 10
	done
}

# Ends the command's process group. Returns 1 when its claim was taken back.
sb_kill() {
	sb_read || return 1
	sb_never && return 0
	if sb_ended; then
		sb_drain
		sb_report DONE "$sb_code"
		return 0
	fi
	if [ "$sb_booted" != "$sb_boot" ]; then
		sb_report REBOOTED -
		return 0
	fi
	# A process that got the number since is not ours; without one, what is left of the group is.
	if sb_alive || ! sb_process "$sb_pid"; then
		sb_was=no
		sb_alive && sb_was=yes
		kill -TERM "-$sb_pid" 2>/dev/null
		sb_gone $((sb_grace * 100)) || kill -KILL "-$sb_pid" 2>/dev/null
		if ! sb_gone 300; then
			sb_ended
			sb_report STUCK "$sb_code"
			return 0
		fi
		sb_ended || [ "$sb_was" = no ] || true >"$sb_file.rc.KILL"
	fi
	if sb_ended; then
		sb_report KILLED "$sb_code"
	else
		sb_report LOST -
	fi
}

# It may have been sent before, and is not known. Could it have run, and been forgotten?
sb_unsure() {
	sb_began
	# A reboot may have taken its claim along; and who cleans such directories is not always us.
	[ "$sb_up" -le $((sb_age + 60)) ] || [ "$sb_age" -gt 500000 ] || sb_forgotten $((sb_now - sb_age - 60)) "$@"
}

# Could this be a request that was on its way for so long that another copy of it has come, run, and been forgotten?
# It cannot be older than the connection it came by, which our parent serves.
sb_stale() {
	sb_forgotten 0 "$@" || return 1
	sb_process "$PPID" || return 1
	sb_forgotten $((sb_start / 100 - 60)) "$@"
}

sb_main() {
	sb_coarse= sb_late= sb_boot= sb_due=no
	read -r sb_boot <"$sb_boot_id"
	if ! sb_process "$$" || [ -z "$sb_boot" ]; then
		sb_say NOPROC
		sb_say end
		return
	fi
	if [ "$sb_group" != "$$" ]; then
		sb_say NOGROUP
		sb_say end
		return
	fi
	sb_begin=$sb_start
	sb_try=0
	while [ "$sb_try" -lt 5 ]; do
		sb_try=$((sb_try + 1))
		sb_clock
		if sb_find "$@"; then
			if [ "$sb_mode" = kill ]; then
				sb_kill && return
			else
				sb_attach && return
			fi
			continue
		fi
		sb_kind=run
		if [ "$sb_mode" != run ] && sb_unsure "$@"; then
			sb_kind=forgotten
		elif [ "$sb_mode" = kill ] || [ "$sb_mode" = ask ]; then
			sb_kind=void
		elif [ "$sb_mode" = run ] && sb_stale "$@"; then
			sb_say STALE
			sb_say end
			return
		fi
		if sb_claim "$@"; then
			sb_never || sb_run
			[ "$sb_kind" = run ] || [ "$sb_due" = no ] || sb_tidy >/dev/null 2>&1
			return
		fi
		if [ "$sb_why" = nowhere ]; then
			[ "$sb_kind" = forgotten ] && sb_never && return
			sb_say NOSTATE
			sb_say end
			return
		fi
		sb_nap 05
	done
	sb_say UNKNOWN
	sb_say end
}

# The last line, and only it, starts anything: a script that was cut on the way runs nothing.
{ eval "set -- $sb_places"; sb_main "$@"; exit 0; }
