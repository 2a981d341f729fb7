/// How a command ended, as a shell sees it (`sysexits.h`).
package enum ExitStatus: Int32, Sendable {
  case done = 0
  /// Two things that were compared are not the same, as `diff(1)` says it.
  case different = 1
  /// EX_USAGE: arguments or settings that cannot be used.
  case usage = 64
  /// EX_UNAVAILABLE: the upstream, or something of the kernel or host, is not to be had.
  case unavailable = 69
  /// EX_TEMPFAIL: what was tried has been taken back.
  case takenBack = 75
  /// EX_NOPERM: the privilege is missing.
  case noPermission = 77
  /// As shells have it: the program that was to be run may not be executed.
  case notExecutable = 126
  /// As shells have it: there is no such program.
  case notFound = 127
}

/// Why a command could not do its work: one line that also says what to do next.
package struct CommandFailure: Error, Sendable {
  package let message: String
  package let status: ExitStatus

  init(_ message: String, _ status: ExitStatus) {
    self.message = message
    self.status = status
  }

  /// The same with something to know beside it.
  func remarking(_ remark: String) -> CommandFailure {
    CommandFailure("\(message) (\(remark))", status)
  }
}
