internal import Glibc
internal import LinuxIO

/// The shell of the user that this process acts for.
package enum UserShell {
  /// `$SHELL`, or else what the user database says, or `/bin/sh`.
  package static var path: String {
    if let shell = environment("SHELL"), !shell.isEmpty { return shell }
    return Accounts.shellOfThisUser ?? "/bin/sh"
  }

  /// What shows in the prompt of Debian's shells, where nothing else is shown there.
  package static var hint: [String: String] {
    environment("debian_chroot") == nil ? ["debian_chroot": "sluice"] : [:]
  }

  private static func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
  }
}
