# A command that only looks, under a POSIX sh that reads this from its standard input.
# In front of this stand: sb_nonce, sb_grace and sb_command (the values from outside, then the author's text).
#
# The command takes the place of this shell, so its exit code or signal is what sshd reports. Beside it waits one
# watcher at the rest of the standard input: when that ends, the bot has given up or is gone, and the whole process
# group is told to end. All of it is one compound command: a script cut in the middle runs nothing.
{
	sb_group=
	read -r sb_1 sb_2 sb_3 sb_4 sb_group sb_5 <"/proc/$$/stat"
	if [ "$sb_group" != "$$" ]; then
		printf '\n%s NOGROUP\n' "$sb_nonce"
		exit 0
	fi
	exec 3<&0 </dev/null
	{
		trap '' TERM HUP INT
		while read -r sb_1; do :; done
		if kill -0 "$$"; then
			kill -TERM 0
			sleep "$sb_grace"
			kill -KILL 0
		fi
	} <&3 3<&- >/dev/null 2>&1 &
	exec 3<&-
	printf '\n%s\n' "$sb_nonce"
	printf '\n%s\n' "$sb_nonce" >&2
	eval "$sb_command"
	exit
}
