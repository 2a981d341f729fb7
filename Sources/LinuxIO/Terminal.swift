internal import CLinux

/// Standard input where a person sits at it (`termios(3)`).
package struct Terminal {
  package enum Input: Hashable, Sendable {
    /// Without its end.
    case line(String)
    /// End of input, or the terminal is gone.
    case end
    /// This process is in the background, where input is not for it.
    case notOurs
  }

  /// For registration with `Epoll`.
  package var rawValue: Int32 { STDIN_FILENO }

  /// Nil if standard input is something else. What was typed before is dropped. From here on the keys
  /// that stop or kill a process at once (Ctrl-Z, Ctrl-\) and reading in the background do not do so.
  package init?() {
    guard isatty(STDIN_FILENO) == 1 else { return nil }
    for signal in [SIGTSTP, SIGTTIN, SIGTTOU, SIGQUIT] { clx_ignore_signal(signal) }
    tcflush(STDIN_FILENO, TCIFLUSH)
  }

  /// What has been typed; blocks if nothing has.
  package func read() -> Input {
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = clx_read(STDIN_FILENO, &buffer, buffer.count)
    if count == -Int(EIO) { return .notOurs }
    if count <= 0 { return .end }
    return .line(
      String(decoding: buffer[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
  }
}
