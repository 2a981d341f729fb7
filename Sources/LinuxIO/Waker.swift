internal import CLinux

/// Wakes a loop from another thread (`eventfd(2)`).
package struct Waker: ~Copyable, Sendable {
  private let descriptor: Descriptor

  package init() throws(Errno) { descriptor = Descriptor(owning: try checked(clx_eventfd())) }

  /// For registration with `Epoll`.
  package var rawValue: Int32 { descriptor.rawValue }

  package func wake() {
    var one: UInt64 = 1
    // A full counter means that a wake is already pending.
    _ = clx_write(descriptor.rawValue, &one, 8)
  }

  /// Takes the wakes that are pending, so that the next one is an edge again.
  package func clear() {
    var count: UInt64 = 0
    _ = clx_read(descriptor.rawValue, &count, 8)
  }
}
