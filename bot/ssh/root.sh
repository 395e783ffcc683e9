# Root's side of a command under sudo, given to `/bin/sh -c`; it leads a process group of its own.
# $1: bytes of the command on standard input; $2: the lifeline's process; $3: seconds between TERM and KILL.

# Is this process there, and no corpse?
sb_living() {
	sb_line=
	{ read -r sb_line <"/proc/$1/stat"; } 2>/dev/null
	sb_line=${sb_line##*) }
	case $sb_line in
	'' | Z* | X*) return 1 ;;
	esac
}

# Signals all others of this group; false when there are none.
sb_others() {
	sb_found=
	for sb_stat in /proc/[0-9]*; do
		sb_pid=${sb_stat#/proc/}
		[ "$sb_pid" != "$$" ] && [ "$sb_pid" != "$sb_timer" ] && sb_living "$sb_pid" || continue
		# Field splitting is meant: state, parent, group.
		set -- "$1" $sb_line
		if [ "$4" = "$$" ]; then
			sb_found=yes
			kill "-$1" "$sb_pid" 2>/dev/null
		fi
	done
	[ -n "$sb_found" ]
}

sb_lifeline=$2 sb_grace=$3
sb_text=$(head -c "$1")
exec </dev/null
sb_stop=
trap 'sb_stop=yes' TERM HUP INT
(
	trap - TERM HUP INT
	eval "$sb_text"
) &
sb_job=$!
(
	trap '' TERM HUP INT
	while sb_living "$sb_lifeline"; do
		sleep 0.2 2>/dev/null || sleep 1
	done
	kill -TERM "$$"
) >/dev/null 2>&1 &
sb_watch=$!
wait "$sb_job"
sb_code=$?
# bash says of its own accord who was killed; nobody asked.
{
	kill -KILL "$sb_watch"
	wait "$sb_watch"
} 2>/dev/null
if [ -n "$sb_stop" ]; then
	(exec sleep "$sb_grace" >/dev/null 2>&1) &
	sb_timer=$!
	sb_signal=TERM
	# What does not even heed KILL, such as a process that hangs in a driver, is waited for: it has not ended.
	while sb_others "$sb_signal"; do
		sleep 0.1 2>/dev/null || sleep 1
		sb_signal=0
		sb_living "$sb_timer" || sb_signal=KILL
	done
	{
		kill -KILL "$sb_timer"
		wait "$sb_timer"
	} 2>/dev/null
	wait "$sb_job"
	sb_now=$?
	[ "$sb_now" = 127 ] || sb_code=$sb_now
fi
exit "$sb_code"
