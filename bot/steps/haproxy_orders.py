"""The shell text of the three orders to HAProxy: drain, maintenance, ready; each looks in the moment of the change.

What the order must find comes in variables from the ledger of drains when it leaves: `OWN` (the state in which Sickbay
left the server, `any` to take it over, `none`), `SELECTED` (how often HAProxy had chosen it then), `AGE` (seconds that a
maintenance of ours is old). Without them nothing is Sickbay's, and what is out of traffic is left alone.
"""

from bot.steps.haproxy import NO_ANSWER, SAY, TABLES

REFUSED = 10
"""Exit code: the server does not stand where the change begins."""
UNSEEN = 75
"""Exit code: the change was asked for, and then HAProxy did not answer."""
UNCHANGED = "unchanged: "
"""Begins the last line on stderr of an order that had nothing to do."""

_LOOK = f"""\
refuse() {{ printf '%s\\n' "$1" >&2; exit {REFUSED}; }}
unchanged() {{
  say '{TABLES}' || exit {NO_ANSWER}
  printf '{UNCHANGED}%s\\n' "$1" >&2
  exit 0
}}
number() {{ case $1 in '' | *[!0-9]*) false ;; esac; }}
count() {{ # one line of `show stat`; its 31st column is lbtot
  set -f
  IFS=,
  set -- $1
  unset IFS
  set +f
  case ${{1-}} in
    '# pxname') [ "${{31-}}" != lbtot ] || counts=1 ;;
    "${{SERVER%%/*}}") [ "${{2-}}" != "${{SERVER##*/}}" ] || [ -z "$counts" ] || selected=${{31-}} ;;
  esac
}}
look() {{
  table=$(say "show servers state ${{SERVER%%/*}}") || exit {NO_ANSWER}
  stat=$(say 'show stat -1 4 -1') || exit {NO_ANSWER}
  admin= others=0 age= selected= counts=
  while read -r _ backend _ server _ operation bits weight _ since _; do
    number "$bits" || continue
    if [ "$backend/$server" = "$SERVER" ]; then
      admin=$bits age=$since
    elif [ "$operation" = 2 ] && [ $((bits & 59)) = 0 ] && [ "$weight" != 0 ]; then
      others=$((others + 1))
    fi
  done <<EOF
$table
EOF
  while read -r line; do
    count "$line"
  done <<EOF
$stat
EOF
  [ -n "$admin" ] || refuse "HAProxy knows no server $SERVER"
  state=ready stands='taking traffic'
  [ $((admin & 24)) = 0 ] || state=drain stands=drained
  [ $((admin & 35)) = 0 ] || state=maint stands='in maintenance'
}}
ours() {{ # does it stand as Sickbay left it?
  case ${{OWN:-none}} in
    any) return ;;
    none) refuse "$SERVER is $stands, and not by Sickbay: somebody else took it out" ;;
    "$state") ;;
    *) refuse "$SERVER is $stands, and Sickbay left it in $OWN: somebody else has changed it since" ;;
  esac
  if number "${{SELECTED-}}" && number "$selected"; then
    [ "$selected" -le "$SELECTED" ] ||
      refuse "$SERVER has taken requests since Sickbay took it out: somebody else put it back and took it out again"
    [ "$selected" -ge "$SELECTED" ] ||
      refuse "HAProxy was started anew since Sickbay took $SERVER out: who took it out then is not known"
  fi
  if number "${{AGE-}}" && number "$age" && [ "$age" -lt "$AGE" ]; then
    refuse "the maintenance of $SERVER is younger than Sickbay's: somebody else put it back and took it out again"
  fi
}}
change() {{
  say "set server $SERVER state $1" || exit {UNSEEN}
  say '{TABLES}' || exit {UNSEEN}
}}
look
"""
"""Bits of `srv_admin_state`: 24 drains, 35 is maintenance, 59 both; 4 stays set on a server once `disabled`."""

DRAIN = f"""\
# HAProxy: set server "$SERVER" state drain
{SAY}{_LOOK}\
if [ "$state" != ready ]; then
  [ "${{OWN:-none}}" = none ] || {{ ours; unchanged "$SERVER is $stands already, by the same owner"; }}
  [ "${{TAKEN-}}" != leave ] || unchanged "$SERVER is $stands already: somebody else took it out, and it is theirs"
  refuse "$SERVER is $stands already: somebody else took it out"
fi
[ "${{OWN:-none}}" = none ] || refuse "$SERVER takes traffic, and Sickbay left it in $OWN: somebody else has put it back"
[ "$others" -gt 0 ] || [ "$LAST" = allow ] || refuse "no other server of ${{SERVER%%/*}} is ready: nobody would serve"
change drain
"""
MAINTENANCE = f"""\
# HAProxy: set server "$SERVER" state maint
{SAY}{_LOOK}\
[ "$state" != ready ] || refuse "$SERVER is not drained: its requests would be cut off"
[ "$state" != maint ] || [ "${{OWN:-none}}" = maint ] || refuse "$SERVER is in maintenance already: somebody else took it out"
ours
[ "$state" != maint ] || unchanged "$SERVER is in maintenance already, by the same owner"
change maint
"""
UNDRAIN = f"""\
# HAProxy: set server "$SERVER" state ready
{SAY}{_LOOK}\
[ "$state" != ready ] || unchanged "$SERVER takes traffic already: somebody else put it back, or it was never out"
ours
change ready
"""
