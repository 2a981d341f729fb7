internal import CLinux

/// The terminal that the process was started from.
package struct ControllingTerminal {
  private let wasThere = Self.isThere

  package init() {}

  /// Whether there was one and it has gone: closed, or its line is cut (`tty(4)`).
  package var isGone: Bool { wasThere && !Self.isThere }

  private static var isThere: Bool {
    let result = clx_open("/dev/tty", O_RDONLY | O_NOCTTY, 0)
    guard result >= 0 else { return false }
    _ = Descriptor(owning: result)
    return true
  }
}
