# A command that starts at most once, under a POSIX sh (dash, bash, busybox ash) that reads this from standard input.
#
# In front of this stand:
#   sb_mode     run: the first time · resume: sent before · kill: end it, and if it never began, see that it never does
#   sb_id       what the command is known by        sb_user   part of the directory's name
#   sb_nonce    marks our lines in the answer       sb_age    seconds since it was first sent
#   sb_limit    seconds it may run                  sb_grace  seconds between TERM and KILL
#   sb_places   state directories, as sh words      sb_boot_id, sb_uptime, sb_init  files of /proc
#   sb_keep     bytes of each end of an output that must be kept
#   sb_command  values from outside, then the author's text
#
# State of a command, in the first usable of the directories, is files named ID.*:
#   claim   made with O_EXCL, so by one only; then one line: kind, boot id, process, its start time, uptime
#   rc.N    empty, made when the command ended with exit code N (rc.KILL: it was killed): atomic, fits on a full disk
#   out, out.tail, out.cut, out.done, and the same for err: what it wrote, its middle left out when it is long
# The process that claims is the one that waits for the command, and leads the process group it runs in.
#
# Answers are lines "NONCE WORD ...". A whole answer ends with "NONCE end": what lacks it was cut on the way.

sb_say() {
	printf '\n%s %s\n' "$sb_nonce" "$*"
}

sb_nap() {
	sleep 0.05 2>/dev/null || sleep 1
}

# Sets sb_group and sb_start of a living process.
sb_process() {
	sb_line=
	{ read -r sb_line <"/proc/$1/stat"; } 2>/dev/null
	sb_line=${sb_line##*) }
	# Field splitting is meant: the line is numbers behind the name of the program.
	set -- $sb_line
	[ $# -gt 20 ] && [ "$1" != Z ] && [ "$1" != X ] || return 1
	sb_group=$3
	shift 19
	sb_start=$1
}

sb_alive() {
	sb_process "$sb_pid" && [ "$sb_start" = "$sb_started" ]
}

# Sets sb_now: uptime in seconds; and sb_up: seconds since this machine, or this container, was started.
sb_clock() {
	sb_now=0
	read -r sb_now sb_rest <"$sb_uptime"
	sb_now=${sb_now%.*}
	sb_up=$sb_now
	sb_line=
	{ read -r sb_line <"$sb_init"; } 2>/dev/null
	sb_line=${sb_line##*) }
	set -- $sb_line
	if [ $# -gt 20 ]; then
		shift 19
		sb_up=$((sb_now - $1 / 100))
	fi
}

# Is this directory ours alone? Makes it when it is missing. Sets sb_base.
sb_usable() {
	sb_base=$1/.sickbay-$sb_user
	[ -e "$sb_base" ] || [ -L "$sb_base" ] || (umask 077 && mkdir "$sb_base") 2>/dev/null
	[ ! -L "$sb_base" ] && [ -d "$sb_base" ] && [ -O "$sb_base" ] && [ -w "$sb_base" ] || return 1
	case $(ls -ld "$sb_base") in
	drwx------*) ;;
	*) return 1 ;;
	esac
}

# Looks for a claim in every directory. Sets sb_file.
sb_find() {
	for sb_dir do
		sb_base=$sb_dir/.sickbay-$sb_user
		sb_file=$sb_base/$sb_id
		[ ! -L "$sb_base" ] && [ -O "$sb_base" ] && [ -e "$sb_file.claim" ] && return 0
	done
	return 1
}

# Claims for the kind of thing in sb_kind. Sets sb_file, or sb_why: taken or nowhere.
sb_claim() {
	sb_why=nowhere
	for sb_dir do
		sb_usable "$sb_dir" || continue
		sb_file=$sb_base/$sb_id
		set -C
		if ! { true >"$sb_file.claim"; } 2>/dev/null; then
			set +C
			[ -e "$sb_file.claim" ] || continue
			sb_why=taken
			return 1
		fi
		set +C
		# Two could claim in two directories when one of these was unusable for a moment: then both give way.
		sb_mine=$sb_file
		for sb_dir do
			sb_base=$sb_dir/.sickbay-$sb_user
			if [ "$sb_base/$sb_id" != "$sb_mine" ] && [ -e "$sb_base/$sb_id.claim" ]; then
				rm -f "$sb_mine.claim"
				sb_why=taken
				return 1
			fi
		done
		sb_file=$sb_mine
		sb_base=${sb_file%/*}
		if { [ "$sb_kind" = void ] || mkfifo -m 600 "$sb_file.o" "$sb_file.e"; } 2>/dev/null &&
			{ printf '%s %s %s %s %s\n' "$sb_kind" "$sb_boot" "$$" "$sb_begin" "$sb_now" >>"$sb_file.claim"; } 2>/dev/null
		then
			return 0
		fi
		rm -f "$sb_file.claim" "$sb_file.o" "$sb_file.e"
	done
	return 1
}

# Reads a claim, waiting for one that is still being written. Sets sb_kind, sb_booted, sb_pid, sb_started, sb_since.
sb_read() {
	sb_n=0
	while [ "$sb_n" -lt 100 ]; do
		sb_since=
		{ read -r sb_kind sb_booted sb_pid sb_started sb_since <"$sb_file.claim"; } 2>/dev/null
		[ -n "$sb_since" ] && return 0
		[ -e "$sb_file.claim" ] || return 1
		sb_nap
		sb_n=$((sb_n + 1))
	done
	sb_say UNKNOWN
	sb_say end
	exit 0
}

# Did it end? Sets sb_code.
sb_ended() {
	for sb_code in "$sb_file".rc.*; do
		if [ -e "$sb_code" ]; then
			sb_code=${sb_code##*.rc.}
			return 0
		fi
	done
	sb_code=-
	return 1
}

# The end was written down, but the last of the output may still be on its way through a pipe. Something that the
# command left running may hold that pipe for ever: then its keepers stay, and the process that waits for them may go.
sb_drain() {
	sb_n=0
	while [ "$sb_n" -lt 20 ] && ! { [ -e "$sb_file.out.done" ] && [ -e "$sb_file.err.done" ]; }; do
		[ "$sb_booted" = "$sb_boot" ] && sb_alive || return 0
		sb_nap
		sb_n=$((sb_n + 1))
	done
	[ "$sb_n" -lt 20 ] || kill -USR1 "$sb_pid" 2>/dev/null
}

# Takes all of standard input, at once as it comes, and keeps both ends of it.
sb_store() {
	true >"$1"
	while sb_round "$1"; do
		[ "$(($(wc -c <"$1")))" -lt "$sb_keep" ] || break
	done
	sb_cut=0
	while [ -z "$sb_over" ] && sb_round "$1.tail"; do
		sb_size=$(($(wc -c <"$1.tail")))
		if [ "$sb_size" -gt $((2 * sb_keep)) ]; then
			tail -c "$sb_keep" "$1.tail" >"$1.new" && mv -f "$1.new" "$1.tail"
			sb_cut=$((sb_cut + sb_size - sb_keep))
			echo "$sb_cut" >"$1.cut"
		fi
	done
	[ "$sb_over" = yes ] || cat >/dev/null
	true >"$1.done"
}

# One dd; sets sb_over when the input ended (yes) or the disk is full (full).
sb_round() {
	sb_over=
	if ! sb_line=$(LC_ALL=C dd bs=16384 count=64 2>&1 >>"$1"); then
		sb_over=full
		true >"$1.full"
		return 1
	fi
	# "F+P records in" counts the reads, full and partial; there may be a warning in front of it.
	sb_line=${sb_line%% records in*}
	sb_line=${sb_line##*[!0-9+]}
	[ "$(($sb_line))" -ge 64 ] && return 0
	sb_over=yes
	return 1
}

# Says all that is known: word, exit code, bytes left out of each output, whether an output is incomplete.
sb_report() {
	sb_cut_out=0 sb_cut_err=0 sb_lack=whole
	{ read -r sb_cut_out <"$sb_file.out.cut"; } 2>/dev/null
	{ read -r sb_cut_err <"$sb_file.err.cut"; } 2>/dev/null
	[ -e "$sb_file.out.full" ] || [ -e "$sb_file.err.full" ] && sb_lack=full
	[ -e "$sb_file.out" ] && [ -e "$sb_file.err" ] || sb_lack=gone
	sb_say "$1" "$2" "$sb_cut_out" "$sb_cut_err" "$sb_lack"
	[ -s "$sb_file.out" ] && cat "$sb_file.out"
	[ -s "$sb_file.out.tail" ] && cat "$sb_file.out.tail"
	sb_say err
	[ -s "$sb_file.err" ] && cat "$sb_file.err"
	[ -s "$sb_file.err.tail" ] && cat "$sb_file.err.tail"
	sb_say end
}

# Runs the command, and writes down how it ended before anything is said about it.
sb_run() {
	trap '' TERM HUP INT PIPE
	trap 'exit 0' USR1
	sb_say STARTED
	sb_store "$sb_file.out" <"$sb_file.o" >/dev/null 2>&1 &
	sb_out=$!
	sb_store "$sb_file.err" <"$sb_file.e" >/dev/null 2>&1 &
	sb_err=$!
	(
		trap - TERM HUP INT PIPE
		unset sb_nonce
		eval "$sb_command"
	) </dev/null >"$sb_file.o" 2>"$sb_file.e" &
	wait "$!"
	sb_code=$?
	true >"$sb_file.rc.$sb_code"
	sb_say ENDED "$sb_code"
	wait "$sb_out" "$sb_err"
	sb_report DONE "$sb_code"
	rm -f "$sb_file.o" "$sb_file.e"
	# Forget what is older than a week, and long outputs older than a day.
	find "$sb_base" ! -type d \( -mtime +6 -o -mtime +0 -size +128 \) -exec rm -f {} + 2>/dev/null
}

# Waits for somebody else's run of the same command. Returns 1 when its claim was taken back.
sb_attach() {
	sb_read || return 1
	if [ "$sb_kind" = void ]; then
		sb_say VOID
		sb_say end
		return 0
	fi
	sb_looks=0
	while :; do
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
			if [ "$sb_looks" -lt 40 ]; then sb_nap; else sleep 1; fi
			continue
		fi
		return 0
	done
}

# Is a process of the group left? One that is dead and not yet buried by its parent does not count.
sb_left() {
	kill -0 "-$sb_pid" 2>/dev/null || return 1
	# Looking at every process takes a while: only now and then.
	[ $((sb_n % 5)) -eq 0 ] || return 0
	for sb_stat in /proc/[0-9]*; do
		sb_process "${sb_stat#/proc/}" && [ "$sb_group" = "$sb_pid" ] && return 0
	done
	return 1
}

# Waits until no process of the group is left, for $1 tenths of a second.
sb_gone() {
	sb_n=0
	while sb_left; do
		[ "$sb_n" -lt "$1" ] || return 1
		sleep 0.1 2>/dev/null || sleep 1
		sb_n=$((sb_n + 1))
	done
}

# Ends the command's process group. Returns 1 when its claim was taken back.
sb_kill() {
	sb_read || return 1
	if [ "$sb_kind" = void ]; then
		sb_say VOID
		sb_say end
		return 0
	fi
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
		sb_gone $((sb_grace * 10)) || kill -KILL "-$sb_pid" 2>/dev/null
		if ! sb_gone 30; then
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

sb_main() {
	sb_boot=
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
		[ "$sb_mode" = kill ] && sb_kind=void
		# Claims are forgotten after a week, and a reboot may have taken one along.
		if [ "$sb_mode" = resume ] && { [ "$sb_up" -le $((sb_age + 60)) ] || [ "$sb_age" -gt 500000 ]; }; then
			sb_say FORGOTTEN
			sb_say end
			return
		fi
		if sb_claim "$@"; then
			if [ "$sb_kind" = void ]; then
				sb_say VOID
				sb_say end
			else
				sb_run
			fi
			return
		fi
		if [ "$sb_why" = nowhere ]; then
			sb_say NOSTATE
			sb_say end
			return
		fi
		sb_nap
	done
	sb_say UNKNOWN
	sb_say end
}

# The last line, and only it, starts anything: a script that was cut on the way runs nothing.
{ eval "set -- $sb_places"; sb_main "$@"; exit 0; }
