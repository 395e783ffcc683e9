# What a command writes: stored as it comes, and sent to whoever asks. The middle part of `once.sh`.
#
# Whoever stores knows nothing of the link, so no link can hold up the command. Whoever sends reads files that only grow.

# Has all that it wrote been stored?
sb_stored() {
	[ -e "$sb_file.out.done" ] && [ -e "$sb_file.err.done" ] || [ ! -e "$sb_pipe.o" ]
}

# Does nobody who stores output have anything to do? Returns 2 when nobody stores any.
sb_idle() {
	sb_found=2
	for sb_stat in /proc/[0-9]*; do
		[ "$sb_stat/fd/0" -ef "$sb_pipe.o" ] || [ "$sb_stat/fd/0" -ef "$sb_pipe.e" ] || continue
		sb_process "${sb_stat#/proc/}" || continue
		[ "$sb_doing" = S ] || return 1
		sb_found=0
	done
	return $sb_found
}

# The end was written down, but the last of the output may still be on its way through a pipe. Something that the
# command left running may hold that pipe for ever: when it is empty, its keepers stay, and the process that waits for
# them may go. Sets sb_late when some of it may be missing: late or killed.
sb_drain() {
	sb_n=0 sb_quiet=0
	while [ "$sb_booted" = "$sb_boot" ] && ! sb_stored; do
		sb_idle
		case $? in
		0) sb_quiet=$((sb_quiet + 1)) ;;
		1) sb_quiet=0 ;;
		*) sb_alive || sb_late=killed ;;
		esac
		if [ "$sb_quiet" -ge 2 ]; then
			kill -USR1 "$sb_pid" 2>/dev/null
			return
		fi
		[ "$sb_n" -lt 1000 ] || sb_late=late
		if [ -n "$sb_late" ]; then
			sb_stored && sb_late=
			return 0
		fi
		sb_nap 05
	done
}

# Takes all of standard input, at once as it comes, and keeps both ends of it.
sb_store() {
	sb_first=$sb_one sb_most=$sb_head sb_over= sb_last=
	set -C
	while true >"$1.$sb_first"; do
		sb_size=0
		while sb_round "$1.$sb_first"; do
			sb_size=$(($(wc -c <"$1.$sb_first")))
			[ "$sb_size" -lt "$sb_most" ] || break
		done
		[ -z "$sb_over" ] || break
		[ -z "$sb_last" ] || rm -f "$sb_last"
		[ "$sb_first" = "$sb_one" ] || sb_last=$1.$sb_first
		sb_first=$((sb_first + sb_size)) sb_most=$sb_tail
	done
	if [ "$sb_over" != yes ]; then
		true >"$1.full"
		cat >/dev/null
	fi
	true >"$1.done"
}

# One dd; sets sb_over when the input ended (yes) or the disk is full (full).
sb_round() {
	sb_over=
	if ! sb_line=$(LC_ALL=C dd bs=16384 count=32 2>&1 >>"$1"); then
		sb_over=full
		return 1
	fi
	# "F+P records in" counts the reads, full and partial; there may be a warning in front of it.
	sb_line=${sb_line%% records in*}
	sb_line=${sb_line##*[!0-9+]}
	[ "$(($sb_line))" -ge 32 ] && return 0
	sb_over=yes
	return 1
}

# Sends one output, $1, from byte $2 on, up to what there is; all of it, without looking whether there is any, with $3.
# Sets sb_at, the byte to go on from.
sb_pour() {
	sb_at=$2 sb_stream=$1 sb_all=$3
	set -- "$sb_file.$1".1*
	for sb_part do
		shift
		# Where the next part begins, this one ended.
		[ $# -eq 0 ] || [ $((${1##*.} - sb_one)) -gt "$sb_at" ] || continue
		[ -s "$sb_part" ] || continue
		sb_first=$((${sb_part##*.} - sb_one))
		[ "$sb_at" -ge "$sb_first" ] || sb_at=$sb_first
		if [ -z "$sb_all" ]; then
			sb_size=$(wc -c <"$sb_part")
			sb_size=$((sb_first + ${sb_size:-0}))
			[ "$sb_size" -gt "$sb_at" ] || continue
		fi
		sb_say "$sb_stream" "$sb_at"
		tail -c "+$((sb_at - sb_first + 1))" "$sb_part"
		[ -n "$sb_all" ] || sb_at=$sb_size
		sb_told=yes
	done
}

# Sends what is new, or all that is left.
sb_news() {
	sb_told=
	sb_pour out "$sb_at_out" "$1"
	sb_at_out=$sb_at
	sb_pour err "$sb_at_err" "$1"
	sb_at_err=$sb_at
	[ -n "$1" ] || [ -z "$sb_told" ] || sb_say more
}
