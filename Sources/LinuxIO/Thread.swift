internal import CLinux

/// A POSIX thread; either `join` or `detach` must be called. Signals are for the thread that the process
/// began with: one that is blocked there later would else take its default effect by way of this one.
package struct Thread: Sendable {
  private let handle: pthread_t

  /// - Parameters:
  ///   - name: shown by `ps -L` and `top -H`; cut to 15 bytes.
  ///   - processor: the only one that it runs on; nil for any.
  package init(
    name: String, processor: Int? = nil, _ body: @escaping @Sendable () -> Void
  ) throws(Errno) {
    let start = Unmanaged.passRetained(
      Start(name: String(name.utf8.prefix(15)) ?? "sluice") {
        if let processor { System.pin(to: processor) }
        body()
      })
    var (everything, former) = (sigset_t(), sigset_t())
    sigfillset(&everything)
    // What the new thread inherits.
    clx_hold_signals(&everything, &former)
    defer { clx_set_signals(&former) }
    var handle = pthread_t()
    // SAFETY: `start` is retained once here and released once, in the thread or on failure below.
    let result = pthread_create(
      &handle, nil,
      { argument in
        let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
        clx_name_thread(start.name)
        start.body()
        return nil
      }, start.toOpaque())
    guard result == 0 else {
      start.release()
      throw Errno(rawValue: result)
    }
    self.handle = handle
  }

  /// Waits for its end.
  package func join() { pthread_join(handle, nil) }

  /// Lets it end by itself.
  package func detach() { pthread_detach(handle) }

  private final class Start {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, _ body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }
}
