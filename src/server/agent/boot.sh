# Finds a Python and runs src/server/agent/loader.py in it (docs/mux.md). Any POSIX sh.
# Arguments: nonce, the loader's text.
set +eu
say() { printf '\033]7730;%s;%s\033\134' "$1" "$2"; }
say "$1" sh
# The Jupyter server is our parent, and its Python surely works. The first mapping is the program;
# reading it costs no process, as readlink would.
python_=
{ read -r _ _ _ _ _ python_ <"/proc/$PPID/maps"; } 2>/dev/null
case $python_ in */python*) ;; *) python_=$(readlink "/proc/$PPID/exe") ;; esac 2>/dev/null
case $python_ in */python3.[6-9]* | */python3.[1-9][0-9]*) [ -x "$python_" ] && exec "$python_" -BISc "$2" "$1" ;; esac
case $python_ in */python*) ;; *) python_=python3 ;; esac
for python_ in "$python_" python3 /usr/bin/python3 /usr/local/bin/python3 /opt/conda/bin/python3 python; do
  "$python_" -BISc 'import sys,termios,select,fcntl,binascii;sys.exit(sys.version_info<(3,6))' \
    </dev/null >/dev/null 2>&1 && exec "$python_" -BISc "$2" "$1"
done
say "$1" no-python
# POSIX read has no time limit.
(sleep 60; kill "$$") </dev/null >/dev/null 2>&1 &
read -r _
kill "$!"
