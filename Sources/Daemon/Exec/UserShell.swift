internal import LinuxIO

/// The shell of the user that this process acts for.
package enum UserShell {
  /// `$SHELL`, or else what the user database says, or `/bin/sh`.
  package static var path: String {
    if let shell = Environment.value("SHELL"), !shell.isEmpty { return shell }
    return Accounts.shellOfThisUser ?? "/bin/sh"
  }

  /// What shows in the prompt of Debian's shells, where nothing else is shown there.
  package static var hint: [String: String] {
    Environment.value("debian_chroot") == nil ? ["debian_chroot": "sluice"] : [:]
  }
}
