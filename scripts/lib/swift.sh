# Swift: finding the toolchain although sudo has emptied PATH, and the release build. Sourced after
# common.sh and packages.sh.
# shellcheck shell=bash

readonly oldest_swift=6.3

# The libraries that a toolchain from swift.org is linked with and a bare Debian does not have.
readonly swift_libraries=(libcurl4 libncurses6 libxml2)

# Prints the folder of the first `swift` found: our PATH, the PATH that the user who called sudo
# has when logged in, the usual places.
find_swift() {
  local found home
  if found=$(command -v swift); then
    dirname "$found"
    return 0
  fi
  home=${HOME:-/root}
  if is_root && [ -n "${SUDO_USER:-}" ]; then
    found=$(sudo -u "$SUDO_USER" -i command -v swift 2>/dev/null </dev/null | tail -n 1) || found=
    if [ -x "$found" ]; then
      dirname "$found"
      return 0
    fi
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
  fi
  for found in /usr/local/bin /usr/local/swift*/usr/bin /opt/swift*/usr/bin /opt/swift*/bin \
    /usr/libexec/swift/*/bin "$home"/.local/share/swiftly/bin "$home"/swift*/usr/bin; do
    if [ -x "$found/swift" ]; then
      printf '%s\n' "$found"
      return 0
    fi
  done
  return 1
}

# Puts Swift on PATH; ends with one line when there is none or it is too old.
use_swift() {
  local folder version
  folder=$(find_swift) || fail "$exit_unavailable" "found no Swift. Install Swift $oldest_swift or" \
    "newer (https://swift.org/install/linux), or put its folder on PATH:" \
    "sudo env PATH=\"/path/to/usr/bin:\$PATH\" $0"
  PATH=$folder:$PATH
  if [[ $(ldd "$folder"/swift* "$folder"/clang 2>/dev/null) == *"not found"* ]]; then
    install_packages "${swift_libraries[@]}"
  fi
  version=$(as_builder swift --version 2>/dev/null |
    sed -n 's/.*Swift version \([0-9][0-9.]*\).*/\1/p' | head -n 1) || version=
  [ -n "$version" ] || fail "$exit_unavailable" "Swift does not run: see $folder/swift --version"
  [ "$(printf '%s\n' "$oldest_swift" "$version" | sort -V | head -n 1)" = "$oldest_swift" ] ||
    fail "$exit_unavailable" "Swift $version in $folder is too old: $oldest_swift or newer is needed"
}

# Builds the program; sets `sluice` to its path. The log is shown when the build fails. A path in
# the environment variable SLUICE is taken instead of a build.
build_release() {
  local log=$logs/release.log
  if [ -n "${SLUICE:-}" ]; then
    [ -x "$SLUICE" ] || fail "$exit_usage" "SLUICE=$SLUICE is not a program"
    sluice=$(realpath "$SLUICE")
    return 0
  fi
  # shellcheck disable=SC2034 # read by the scripts that source this file
  sluice=$checkout/.build/release/sluice
  [ -x "$sluice" ] || say "Building Sluice; the first time takes some minutes (log: $log)"
  rm -f "$log" # Perhaps root's, of an earlier run by sudo.
  release_command >"$log" 2>&1 && return 0
  grep -E '(error|warning):' "$log" | sort -u | head -n 40 >&2
  fail "$exit_unavailable" "the build failed; all of it: $log"
}

# The one release build of all scripts. The Swift runtime is linked in, so that the program does
# not depend on where a toolchain in somebody's home folder is.
release_command() {
  as_builder swift build --package-path "$checkout" -c release --product sluice \
    --static-swift-stdlib
}
