internal import CLinux

/// A file descriptor with one owner; it is closed when its owner lets go of it.
@usableFromInline
package struct Descriptor: ~Copyable, Sendable {
  /// The number the kernel gave; valid as long as this value lives.
  @usableFromInline package let rawValue: Int32

  /// Takes ownership of an open descriptor.
  package init(owning rawValue: Int32) { self.rawValue = rawValue }

  /// Gives up ownership: the caller must close the number that it gets.
  package consuming func take() -> Int32 {
    let rawValue = rawValue
    discard self
    return rawValue
  }

  deinit {
    // The result is of no use: Linux has released the number even when close reports an error.
    _ = clx_close(rawValue)
  }
}
