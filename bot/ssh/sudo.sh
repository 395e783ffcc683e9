# The login user's side of a command that runs as root by `sudo -n`; takes the place of the command's own text.
# In front of this stand: sb_root_text and sb_root_size (the command and its bytes), sb_root_script (root.sh),
# sb_root_grace (seconds between TERM and KILL).
#
# A user cannot signal root's processes, and sudo hands on no KILL. So this side keeps a process of its own in the
# command's group, the lifeline: what ends the group ends the lifeline, and root's side takes that as the order to end
# the command. This side waits until root's side has ended: while it lives, so may the command.
sb_root_check='read -r sb_1 sb_2 sb_3 sb_4 sb_5 sb_6 </proc/$$/stat && { [ "$sb_5" = "$$" ] || command -v setsid; } >/dev/null || { echo "setsid (util-linux) and /proc are needed"; exit 1; }'
if sb_root_said=$(sudo -n -- /bin/sh -c "$sb_root_check" </dev/null 2>&1); then
	sleep 1000000000 </dev/null >/dev/null 2>&1 &
	sb_root_lifeline=$!
	trap 'sb_root_seen=yes; kill "$sb_root_lifeline" 2>/dev/null' TERM HUP INT
	printf '%s' "$sb_root_text" | sudo -n -- /bin/sh -c 'read -r sb_1 sb_2 sb_3 sb_4 sb_5 sb_6 </proc/$$/stat; [ "$sb_5" = "$$" ] && exec /bin/sh -c "$@"; exec setsid /bin/sh -c "$@"' sb \
		"$sb_root_script" sb "$sb_root_size" "$sb_root_lifeline" "$sb_root_grace" &
	sb_root_job=$!
	sb_root_code=
	while :; do
		sb_root_seen=
		wait "$sb_root_job"
		sb_root_now=$?
		# A signal ends the waiting and not what is waited for; 127: it had ended already.
		[ "$sb_root_now" = 127 ] && [ -n "$sb_root_code" ] && break
		sb_root_code=$sb_root_now
		[ -n "$sb_root_seen" ] || break
	done
	trap - TERM HUP INT
	{
		kill "$sb_root_lifeline"
		wait "$sb_root_lifeline"
	} 2>/dev/null
	(exit "$sb_root_code")
else
	printf '[sickbay: nothing was started: sudo refused: %s]\n[sickbay: put this line into /etc/sudoers.d/sickbay on this host: %s ALL=(root) NOPASSWD: /bin/sh]\n' \
		"$sb_root_said" "$(id -un)" >&2
	(exit 126)
fi
