# Runs the user's shell as the Jupyter server itself would, and tells on the terminal which tty it
# is and how the shell ended: messages that the gateway takes out of the output. Any POSIX sh.
# Arguments: nonce rows columns [NAME=value ...]
n=$1 r=$2 c=$3
shift 3
say() { printf '\033]7730;%s;%s\033\\' "$n" "$1"; }
say "tty;$(tty 2>/dev/null);$$"
exec 3<&0 4>&2 2>/dev/null

# The server sets these to 80x25, whatever the window is; curses believes them more than the window.
unset COLUMNS LINES PYXTERM_DIMENSIONS
plain='env --default-signal=HUP,INT,QUIT'
$plain stty rows "$r" columns "$c" iutf8 || { plain='' && stty rows "$r" columns "$c" iutf8; }

# A terminal type that this host can't describe makes curses programs refuse to start.
described() {
  for d in "$HOME/.terminfo" "${TERMINFO:-/etc/terminfo}" /etc/terminfo /lib/terminfo /usr/share/terminfo; do
    [ -e "$d/${1%"${1#?}"}/$1" ] && return
  done
  infocmp "$1" >/dev/null || tput -T "$1" longname >/dev/null
}
term() {
  case $1 in dumb | unknown | linux | vt[0-9]*) set -- "$1" ;;
  screen* | tmux*) set -- "$1" screen-256color screen xterm-256color ;;
  *) set -- "$1" xterm-256color xterm ;; esac
  TERM=$1
  for d_; do described "$d_" && TERM=$d_ && break; done
  [ "$TERM" != "$1" ] || described "$1" || TERM=${2:-$1}
  export TERM
}
# A missing locale would turn UTF-8 off and cause complaints: the server's own is better.
locale_ok() {
  [ "$1" = "$good" ] && return
  if command -v locale >/dev/null; then
    [ -z "$(LC_ALL=$1 locale charmap 2>&1 >/dev/null)" ] || return
  fi
  good=$1
}
all=${LC_ALL:-}
good=${LC_ALL:-${LANG:-C}}
for a; do
  shift
  v=${a#*=}
  case ${a%%=*} in
  TERM) term "$v" ;;
  LANG | LC_ALL | LC_ADDRESS | LC_COLLATE | LC_CTYPE | LC_IDENTIFICATION | LC_MEASUREMENT | LC_MESSAGES | \
    LC_MONETARY | LC_NAME | LC_NUMERIC | LC_PAPER | LC_TELEPHONE | LC_TIME)
    # The server's own LC_ALL would hide it.
    if locale_ok "$v"; then
      [ "$all" ] && unset LC_ALL all
      export "$a"
    fi ;;
  # For the shell alone: this script has variables of its own.
  *) set -- "$@" "$a" ;;
  esac
done

s=${SHELL:-}
[ -x "$s" ] || s=$(getent passwd "$(id -u)" | cut -d: -f7)
case $s in */nologin | */false) s= ;; esac
[ -x "$s" ] || s=$(command -v bash) || s=/bin/sh

# To delete a terminal the server signals only this process, which must pass the hangup on. So it
# can't wait for a foreground command, which delays traps. A background command has SIGINT and
# SIGQUIT ignored for good (POSIX, 2.9.3.1), and a hub started by nohup passes on an ignored SIGHUP:
# the helpers undo that.
trap 'i=1' INT QUIT
trap 'i=1; kill -HUP "$p"; kill -CONT "$p"' HUP
trap 'i=1; kill -KILL "$p"' TERM
if [ "$plain" ]; then
  $plain "$@" "$s" -l <&3 2>&4 3<&- 4>&- &
elif command -v perl >/dev/null; then
  perl -e '$SIG{HUP} = $SIG{INT} = $SIG{QUIT} = "DEFAULT"; exec @ARGV' env "$@" "$s" -l <&3 2>&4 3<&- 4>&- &
else
  python3 -ISc 'import os, signal, sys
for s in (1, 2, 3): signal.signal(s, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' env "$@" "$s" -l <&3 2>&4 3<&- 4>&- &
fi
p=$!
while :; do
  i=
  wait "$p"
  x=$?
  [ "$i" ] || break
done
# The shell may have left another process group in the foreground.
trap '' TTOU INT QUIT TERM
say "exit;$x"
exit "$x"
