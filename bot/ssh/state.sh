# What a host remembers of commands: where, who may start one, and what is forgotten when. The first half of `once.sh`.
#
# State is kept in the first usable of the directories: PLACE/.sickbay-USER, ours, mode 700, never a link. In it are
#   X/ID.claim  made with O_EXCL, so by one only; then a line: kind, boot id, process, its start time, uptime, pipes;
#               and when the command has ended a second one: how many kB it left. Kinds: run · void: never ran and
#               never shall · forgotten: nobody can know whether it ran, and it never shall
#   X/ID.rc.N   empty, made when the command ended with exit code N (rc.KILL: it was killed): atomic, fits on a full disk
#   X/ID.out.P  what it wrote from byte P - sb_one on, and the same for err. Of a long output the first part and the last
#               two are kept: nothing is ever moved, so whoever reads along needs no lock
#   X/ID.out.done .full .told  only while it runs: no more comes · the disk is full · somebody tells the end
#   pipe.P.o .e .taken  two pipes, for one command and never for a second; made in advance, for that takes longer than
#               all else; taken is made with O_EXCL, then says by whom: process, its start time
#   X/ID.gone   empty, made when its output was removed
#   floor.BOOT.UPTIME  empty: what was claimed before that may have been forgotten. What may have been sent before that
#               and is not known is never started
#   tidied      when state was last looked through, and then a letter for each command and each MB since
#
# Of all that is in there, nothing is followed: claims, parts and marks are made with O_EXCL, read when they are plain
# files, and removed by name.

# In front of a byte's number, so that names sort as numbers do.
sb_one=1000000000000000
sb_newline='
'

# Sets sb_group, sb_start and sb_doing of a living process.
sb_process() {
	sb_line=
	{ read -r sb_line <"/proc/$1/stat"; } 2>/dev/null
	sb_line=${sb_line##*) }
	# Field splitting is meant: the line is numbers behind the name of the program.
	set -- $sb_line
	[ $# -gt 20 ] && [ "$1" != Z ] && [ "$1" != X ] || return 1
	sb_doing=$1
	sb_group=$3
	shift 19
	sb_start=$1
}

sb_alive() {
	sb_process "$sb_pid" && [ "$sb_start" = "$sb_started" ]
}

# Sets sb_now: uptime in seconds.
sb_clock() {
	sb_now=0
	read -r sb_now sb_rest <"$sb_uptime"
	sb_now=${sb_now%.*}
	sb_now=${sb_now:-0}
}

# Sets sb_up: seconds since this machine, or this container, was started.
sb_began() {
	sb_up=$sb_now
	sb_line=
	{ read -r sb_line <"$sb_init"; } 2>/dev/null
	sb_line=${sb_line##*) }
	set -- $sb_line
	if [ $# -gt 20 ]; then
		shift 19
		sb_up=$((sb_now - $1 / 100))
		# The uptime is the container's own already.
		[ "$sb_up" -ge 0 ] || sb_up=$sb_now
	fi
}

# Sleeps $1 hundredths of a second, or a whole one where no less is to be had. Adds that to sb_n.
sb_nap() {
	if [ -z "$sb_coarse" ] && sleep "0.$1" >/dev/null 2>&1; then
		sb_n=$((sb_n + $1))
	else
		sb_coarse=yes
		sleep 1 >/dev/null 2>&1
		sb_n=$((sb_n + 100))
	fi
}

sb_plain() {
	[ -f "$1" ] && [ ! -L "$1" ]
}

# Is state kept in this directory, by us?
sb_ours() {
	sb_base=$1/.sickbay-$sb_user
	[ ! -L "$sb_base" ] && [ -d "$sb_base" ] && [ -O "$sb_base" ]
}

# Is this directory ours alone? Makes it when it is missing. Sets sb_base.
sb_usable() {
	sb_base=$1/.sickbay-$sb_user
	[ -e "$sb_base" ] || [ -L "$sb_base" ] || (umask 077 && mkdir "$sb_base") 2>/dev/null
	sb_ours "$1" && [ -w "$sb_base" ] || return 1
	# Only we can change the mode of what is ours: once in a while is often enough to look, and costs nobody time.
	sb_due=no
	if ! sb_lately; then
		sb_due=yes
		sb_private || return 1
	elif [ "${#sb_marks}" -ge 64 ]; then
		sb_due=yes
	fi
	sb_shelf=$sb_base/${sb_id%%/*}
	[ -d "$sb_shelf" ] || (umask 077 && mkdir "$sb_shelf") 2>/dev/null
	[ -d "$sb_shelf" ] && [ ! -L "$sb_shelf" ]
}

# May nobody else look into the directory, or put something else in its place?
sb_private() {
	sb_list=$(LC_ALL=C ls -ld "${sb_base%/*}/." "$sb_base")
	case $sb_list in
	d????????[tT]*) ;;
	d????-??-*) ;;
	*) return 1 ;;
	esac
	case ${sb_list#*"$sb_newline"} in
	drwx------*) ;;
	*) return 1 ;;
	esac
}

# Was state looked through within an hour? Sets sb_marks: what was written since.
sb_lately() {
	sb_rest= sb_at= sb_marks=
	sb_plain "$sb_base/tidied" && { read -r sb_rest sb_at && read -r sb_marks; } <"$sb_base/tidied" 2>/dev/null
	[ "$sb_rest" = "$sb_boot" ] && [ "${sb_at:=0}" -le "$sb_now" ] && [ $((sb_now - sb_at)) -lt 3600 ]
}

# Looks for a claim in every directory. Sets sb_file.
sb_find() {
	for sb_dir do
		sb_ours "$sb_dir" || continue
		sb_file=$sb_base/$sb_id
		[ -e "$sb_file.claim" ] || [ -L "$sb_file.claim" ] && return 0
	done
	return 1
}

# Was what was sent $1 seconds of uptime ago claimed so long ago that we may have forgotten it?
sb_forgotten() {
	sb_at=$1
	shift
	for sb_dir do
		sb_ours "$sb_dir" || continue
		for sb_floor in "$sb_base/floor.$sb_boot".*; do
			[ -e "$sb_floor" ] && [ "$sb_at" -le "${sb_floor##*.}" ] && return 0
		done
	done
	return 1
}

# Claims for the kind of thing in sb_kind. Sets sb_file, or sb_why: taken or nowhere.
sb_claim() {
	sb_why=nowhere
	for sb_dir do
		sb_usable "$sb_dir" || continue
		sb_mine=$sb_base/$sb_id
		sb_pipe=-
		[ "$sb_kind" != run ] || sb_pipes 2>/dev/null || continue
		set -C
		if ! { true >"$sb_mine.claim"; } 2>/dev/null; then
			set +C
			sb_let_go
			[ -e "$sb_mine.claim" ] || [ -L "$sb_mine.claim" ] || continue
			sb_why=taken
			return 1
		fi
		set +C
		# Two could claim in two directories when one of these was unusable for a moment: then both give way.
		for sb_dir do
			sb_ours "$sb_dir" || continue
			if [ "$sb_base/$sb_id" != "$sb_mine" ] && [ -e "$sb_base/$sb_id.claim" ]; then
				sb_let_go "$sb_mine.claim"
				sb_why=taken
				return 1
			fi
		done
		sb_file=$sb_mine
		sb_base=${sb_file%/*/*}
		sb_clear
		if echo "$sb_kind $sb_boot $$ $sb_begin $sb_now ${sb_pipe##*/}" >>"$sb_file.claim"; then
			sb_mark 1
			return 0
		fi 2>/dev/null
		sb_let_go "$sb_file.claim"
	done
	return 1
}

# Takes a pair of pipes that was made in advance, or makes one. Sets sb_pipe.
sb_pipes() {
	for sb_pipe in "$sb_base"/pipe.*.o; do
		sb_pipe=${sb_pipe%.o}
		sb_both && sb_take || continue
		sb_both && return 0
		rm -f "$sb_pipe.taken"
	done
	sb_pipe=$sb_base/pipe.$$.$sb_begin
	sb_take && mkfifo -m 600 "$sb_pipe.o" "$sb_pipe.e" && sb_both && return 0
	sb_let_go
	return 1
}

sb_take() {
	[ ! -e "$sb_pipe.taken" ] || return 1
	set -C
	true >"$sb_pipe.taken"
	sb_rest=$?
	set +C
	[ "$sb_rest" = 0 ] && echo "$$ $sb_begin" >>"$sb_pipe.taken"
	return "$sb_rest"
}

# Are both there? Who had them before may have removed them in the meantime.
sb_both() {
	[ -p "$sb_pipe.o" ] && [ ! -L "$sb_pipe.o" ] && [ -p "$sb_pipe.e" ] && [ ! -L "$sb_pipe.e" ]
}

# Removes the pipes, last of them who has taken them, and what else is named.
sb_let_go() {
	if [ "$sb_pipe" = - ]; then rm -f "$@"; else rm -f "$@" "$sb_pipe.o" "$sb_pipe.e" "$sb_pipe.taken"; fi
}

# Makes a pair for the next command, unless there are some.
sb_spare() {
	sb_count=0
	for sb_pipe in "$sb_base"/pipe.*.o; do
		[ -e "${sb_pipe%.o}.taken" ] || [ ! -e "$sb_pipe" ] || sb_count=$((sb_count + 1))
	done
	sb_pipe=$sb_base/pipe.$$.$sb_begin.next
	[ "$sb_count" -ge 4 ] || mkfifo -m 600 "$sb_pipe.o" "$sb_pipe.e" 2>/dev/null
}

# What is left of a claim that was forgotten half-way is none of ours.
sb_clear() {
	set -- "$sb_file".[!c]*
	[ ! -e "$1" ] && [ ! -L "$1" ] || rm -f "$@"
}

# Reads a claim, waiting for one that is still being written. Sets sb_kind, sb_booted, sb_pid, sb_started, sb_since,
# sb_pipe.
# Returns 1 when it was taken back.
sb_read() {
	sb_n=0
	while [ "$sb_n" -lt 500 ]; do
		sb_since=
		if sb_plain "$sb_file.claim"; then
			{ read -r sb_kind sb_booted sb_pid sb_started sb_since sb_pipe; } <"$sb_file.claim" 2>/dev/null &&
				[ -n "$sb_since" ] && sb_pipe=$sb_base/$sb_pipe && return 0
		else
			[ -e "$sb_file.claim" ] || [ -L "$sb_file.claim" ] || return 1
		fi
		sb_nap 05
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

# Writes down that there is $1 more to look through.
sb_mark() {
	{ [ -L "$sb_base/tidied" ] || printf "%0$1d" 0 >>"$sb_base/tidied"; } 2>/dev/null
}

# Writes down how much a command that ended left here.
sb_weigh() {
	sb_list=$(wc -c "$sb_file".out.1* "$sb_file".err.1* 2>/dev/null)
	# The last line is the sum.
	set -- ${sb_list##*"$sb_newline"}
	sb_size=$(((${1:-0} + 1023) / 1024))
	[ "$sb_size" -lt 1024 ] || sb_mark $((sb_size / 1024))
	# Who was held up by a dead link may come here when it has been forgotten already.
	{ [ -e "$sb_file.claim" ] && echo "$sb_size" >>"$sb_file.claim"; } 2>/dev/null
}

# Forgets, when it is time to, so that there are never more than about 1,000 commands and 256 MB: outputs that are over
# a day old and not short, or over 192 MB in all; commands that are over a week old, or over 900, but not within an hour.
sb_tidy() {
	rm -f "$sb_base/tidied"
	sb_private || return
	echo "$sb_boot $sb_now" >"$sb_base/tidied"
	for sb_file in "$sb_base"/?/*.claim; do
		sb_since= sb_size=
		sb_plain "$sb_file" &&
			{ read -r sb_kind sb_booted sb_pid sb_started sb_since sb_rest && read -r sb_size; } <"$sb_file"
		[ -n "$sb_since" ] || continue
		sb_file=${sb_file%.claim}
		# What is older than this boot is as old as that, at least; and never in doubt: see sb_unsure.
		sb_at=0
		if [ "$sb_booted" = "$sb_boot" ]; then
			sb_at=$sb_since
			[ "$sb_kind" != run ] || sb_ended || ! sb_alive || continue
		fi
		if [ ! -e "$sb_file.out.$sb_one" ]; then
			sb_size=0
		elif [ -z "$sb_size" ]; then
			sb_weigh
		fi
		echo "$sb_at $sb_size ${sb_file#"$sb_base"/}"
	done | LC_ALL=C sort -rn | {
		sb_count=0 sb_sum=0 sb_floor=
		while read -r sb_at sb_size sb_file; do
			sb_file=$sb_base/$sb_file
			sb_count=$((sb_count + 1))
			sb_sum=$((sb_sum + sb_size))
			sb_age=$((sb_now - sb_at))
			if [ "$sb_age" -gt 604800 ] || { [ "$sb_count" -gt 900 ] && [ "$sb_age" -gt 3600 ]; }; then
				# This is the newest that goes. Without that mark none may.
				if [ -z "$sb_floor" ] && [ "$sb_at" -gt 0 ]; then
					sb_floor=$sb_base/floor.$sb_boot.$sb_at
					true >"$sb_floor" || break
				fi
				rm -f "$sb_file".[!c]* "$sb_file.claim"
			elif [ "$sb_sum" -gt 196608 ] || { [ "$sb_age" -gt 86400 ] && [ "$sb_size" -gt 64 ]; }; then
				true >"$sb_file.gone" && rm -f "$sb_file".out.* "$sb_file".err.*
			fi
		done
	}
	sb_lower
	for sb_pipe in "$sb_base"/pipe.*.taken; do
		sb_started=
		sb_plain "$sb_pipe" && read -r sb_pid sb_started <"$sb_pipe"
		sb_pipe=${sb_pipe%.taken}
		[ -z "$sb_started" ] || sb_alive || sb_let_go
	done
}

# Of the floors the highest of this boot is enough.
sb_lower() {
	sb_floor=
	for sb_file in "$sb_base"/floor.*; do
		sb_at=${sb_file##*.}
		case $sb_file in
		*/floor."$sb_boot".*)
			if [ -n "$sb_floor" ] && [ "$sb_at" -le "${sb_floor##*.}" ]; then
				rm -f "$sb_file"
			else
				[ -z "$sb_floor" ] || rm -f "$sb_floor"
				sb_floor=$sb_file
			fi
			;;
		*) rm -f "$sb_file" ;;
		esac
	done
}
