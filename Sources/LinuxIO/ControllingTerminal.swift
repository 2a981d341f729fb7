internal import CLinux

/// The terminal that the process was started from.
package struct ControllingTerminal {
  private let wasThere = Self.isThere

  package init() {}

  /// Whether there was one and it has gone: closed, or its line is cut (`tty(4)`).
  package var isGone: Bool { wasThere && !Self.isThere }

  /// The process group that has the terminal, nil without a terminal.
  package static var foregroundGroup: Int32? {
    guard let terminal = open() else { return nil }
    let group = tcgetpgrp(terminal.rawValue)
    return group < 0 ? nil : group
  }

  /// Makes another process group of the session the one that has the terminal (`tcsetpgrp(3)`).
  package static func give(to group: Int32) {
    guard let terminal = open() else { return }
    _ = tcsetpgrp(terminal.rawValue, group)
  }

  private static var isThere: Bool { open() != nil }

  private static func open() -> Descriptor? {
    let result = clx_open("/dev/tty", O_RDONLY | O_NOCTTY, 0)
    return result < 0 ? nil : Descriptor(owning: result)
  }
}
