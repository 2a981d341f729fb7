# Shared by the scripts: where the checkout is, how they speak, and as whom they build.
# shellcheck shell=bash

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
readonly checkout
# Every log of every script; ignored by git like all build folders.
readonly logs=$checkout/.build-logs

# Exit codes of sysexits.h, the same that the program uses.
readonly exit_usage=64 exit_unavailable=69 exit_privilege=77

# Prints one line for the person, beside whatever the script's output proper is.
say() {
  printf '%s\n' "$*" >&2
}

# fail CODE WORDS…: one line that says what is wrong and what to do, then the end.
fail() {
  local code=$1
  shift
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit "$code"
}

is_root() {
  [ "$(id -u)" -eq 0 ]
}

# require_root REASON: ends with one line unless root runs us.
require_root() {
  is_root || fail "$exit_privilege" "$1 needs root: run it with sudo"
}

# The user who owns the checkout, when it is the one who called sudo; empty otherwise.
# Building as root would leave root's files in a user's checkout.
find_builder() {
  is_root || return 0
  [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] || return 0
  [ "$(stat -c %U "$checkout")" = "$SUDO_USER" ] && printf '%s' "$SUDO_USER"
  return 0
}

builder=$(find_builder)
readonly builder

# as_builder COMMAND…: runs it as the owner of the checkout, with our PATH.
as_builder() {
  if [ -z "$builder" ]; then
    "$@"
  else
    runuser -u "$builder" -- env \
      HOME="$(getent passwd "$builder" | cut -d: -f6)" USER="$builder" LOGNAME="$builder" \
      PATH="$PATH" "$@"
  fi
}

# Makes the folder of logs, and gives build folders that an earlier run as root left in a user's
# checkout to that user.
prepare_folders() {
  local folder
  as_builder mkdir -p "$logs"
  [ -n "$builder" ] || return 0
  for folder in "$checkout"/.build*; do
    [ "$(stat -c %U "$folder")" = "$builder" ] || chown -R "$builder:" "$folder"
  done
}
