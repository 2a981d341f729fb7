internal import CLinux

/// The terminal that this process was started from, as a screen of its own: keys come one by one, unseen,
/// and what was there before comes back in the end (`termios(3)`, ECMA-48, XTerm's private modes).
package struct Screen: ~Copyable {
  package struct Size: Hashable, Sendable {
    package var columns: Int
    package var rows: Int

    package init(columns: Int, rows: Int) { (self.columns, self.rows) = (columns, rows) }
  }

  /// Where the terminal does not say.
  private static let usualSize = Size(columns: 80, rows: 24)
  /// The alternate screen, no cursor.
  private static let opening = "\u{1b}[?1049h\u{1b}[?25l"
  private static let closing = "\u{1b}[?25h\u{1b}[?1049l"

  private let former: termios

  /// Nil where standard input or output is no terminal.
  package static func open() -> Screen? {
    var settings = termios()
    guard isatty(STDOUT_FILENO) == 1, tcgetattr(STDIN_FILENO, &settings) == 0 else { return nil }
    let former = settings
    cfmakeraw(&settings)
    guard tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings) == 0 else { return nil }
    write(opening)
    return Screen(restoring: former)
  }

  private init(restoring former: termios) { self.former = former }

  /// Gives the terminal back as it was.
  deinit {
    var settings = former
    Self.write(Self.closing)
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
  }

  /// For registration with `Epoll`.
  package var rawValue: Int32 { STDIN_FILENO }

  package var size: Size {
    var size = winsize()
    guard clx_window_size(STDOUT_FILENO, &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
      return Self.usualSize
    }
    return Size(columns: Int(size.ws_col), rows: Int(size.ws_row))
  }

  /// What has been typed; nil when the terminal is gone. Blocks if nothing has.
  package func read() -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = clx_read(STDIN_FILENO, &buffer, buffer.count)
    if count == -Int(EINTR) || count == -Int(EAGAIN) { return [] }
    return count > 0 ? Array(buffer[..<count]) : nil
  }

  /// Blocks until the terminal has taken it, or is gone.
  package func write(_ text: String) { Self.write(text) }

  private static func write(_ text: String) {
    let bytes = Array(text.utf8)
    var sent = 0
    while sent < bytes.count {
      let result = bytes[sent...].withUnsafeBytes {
        clx_write(STDOUT_FILENO, $0.baseAddress, $0.count)
      }
      if result == -Int(EINTR) || result == -Int(EAGAIN) {
        _ = clx_poll(STDOUT_FILENO, Int16(POLLOUT), -1)
        continue
      }
      guard result > 0 else { return }
      sent += Int(result)
    }
  }
}
