# Dante with GSSAPI, from Debian's source package: its binary is built without.
# shellcheck shell=bash

# Ignored by git like all build folders.
readonly dante_folder=$checkout/.build-dante

# What building and running it takes, with a throw-away realm (Tests/Network/harness/kerberos.py).
# shellcheck disable=SC2034 # for those who source this
readonly dante_packages=(
  dpkg-dev gcc krb5-admin-server krb5-kdc krb5-user libgssapi-krb5-2 libkrb5-dev make)

# Prints the path of the server, built if it has not been yet; nothing where that fails.
find_dante() {
  local log=$logs/dante.log server=$dante_folder/source/sockd/sockd
  if [ ! -x "$server" ]; then
    build_dante >"$log" 2>&1 </dev/null || {
      say "no Dante with GSSAPI ($log): going on without"
      return 0
    }
  fi
  printf '%s' "$server"
}

# As whoever calls: apt's lists are kept in a folder of our own, so that the system's stay as they are.
build_dante() {
  local sources=$dante_folder/sources
  local apt=(
    apt-get --option Dir::Etc::sourcelist=/dev/null --option "Dir::Etc::sourceparts=$sources"
    --option "Dir::State::lists=$dante_folder/lists" --option "Dir::Cache=$dante_folder/cache"
    --option APT::Sandbox::User=root)
  rm -rf "$dante_folder"
  mkdir -p "$sources" "$dante_folder/lists/partial" "$dante_folder/cache/archives/partial" || return
  write_source_lists "$sources" || return
  "${apt[@]}" update || return
  (cd "$dante_folder" && "${apt[@]}" source --download-only dante) || return
  dpkg-source --extract "$dante_folder"/dante_*.dsc "$dante_folder/source" || return
  cd "$dante_folder/source" || return
  ./configure --with-sockd-conf=/etc/danted.conf --disable-client --without-bsdauth \
    --without-ldap --without-libwrap --without-pam --without-sasl --without-upnp || return
  # As debian/rules does it. The package's files are older than what they would be made from.
  cp lib/config_parse.c lib/config_scan.c sockd/ || return
  local tools=(ACLOCAL=: AUTOCONF=: AUTOHEADER=: AUTOMAKE=:) part
  for part in include sockd; do
    make --jobs=2 --directory="$part" "${tools[@]}" || return
  done
}

# write_source_lists FOLDER: the system's lists of packages, as lists of their sources.
write_source_lists() {
  local list
  for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$list" ] || continue
    sed -n 's/^deb /deb-src /p' "$list" >"$1/${list##*/}" || return
  done
  for list in /etc/apt/sources.list.d/*.sources; do
    [ -f "$list" ] || continue
    sed 's/^Types:.*/Types: deb-src/' "$list" >"$1/${list##*/}" || return
  done
}
