# Debian packages: installed only when missing, without a question, and without starting a service.
# shellcheck shell=bash

# What a build needs besides Swift itself.
readonly build_packages=(ca-certificates g++ git libc6-dev libmnl-dev libnftnl-dev libyaml-dev
  pkg-config)

# missing_packages NAME…: those that are not installed, one a line.
missing_packages() {
  local name
  for name; do
    dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed ||
      printf '%s\n' "$name"
  done
}

# install_packages NAME…: makes sure that they are there; ends with one line when that cannot be.
install_packages() {
  local missing log=$logs/apt.log
  if ! command -v dpkg-query apt-get >/dev/null; then
    say "No apt here: taking it for granted that these are installed: $*"
    return 0
  fi
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  is_root ||
    fail "$exit_privilege" "packages are missing; run it with sudo, or: apt-get install ${missing[*]}"
  say "Installing ${missing[*]}"
  if ! install_quietly "${missing[@]}" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "$exit_unavailable" "apt-get could not install ${missing[*]} (all of it: $log)"
  fi
}

# A subshell, so that its trap and its temporary file are its own. The list of packages is fetched
# when there is none, or when an old one names files that are gone.
install_quietly() (
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  options=(-y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold)
  apt-get install "${options[@]}" "$@" </dev/null || {
    apt-get update </dev/null
    apt-get install "${options[@]}" "$@" </dev/null || exit 1
  }
  disable_services "$@"
)

# disable_services PACKAGE…: what was installed for a test must not start at the next boot either.
disable_services() {
  local package unit
  command -v systemctl >/dev/null || return 0
  for package; do
    dpkg -L "$package" | sed -n 's|^\(/usr\)\?/lib/systemd/system/\([^/@]*\.service\)$|\2|p' |
      while read -r unit; do
        systemctl disable "$unit" || say "$unit could not be disabled, ignoring"
      done
  done
}
