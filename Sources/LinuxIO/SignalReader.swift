internal import CLinux

/// A signal that Sluice handles.
package enum Signal: Int32, CaseIterable, Sendable {
  case hangUp = 1  // SIGHUP
  case interrupt = 2  // SIGINT
  case userDefined1 = 10  // SIGUSR1
  case terminate = 15  // SIGTERM
}

/// Signals as input of a loop (`signalfd(2)`) instead of interruptions anywhere.
package struct SignalReader: ~Copyable {
  private let descriptor: Descriptor

  /// Blocks every `Signal` in the calling thread, and so in all threads that it starts later, and
  /// ignores SIGPIPE.
  package init() throws(Errno) {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in Signal.allCases { sigaddset(&set, signal.rawValue) }
    _ = try checked(clx_block_signals(&set))
    System.ignoreBrokenPipes()
    descriptor = Descriptor(owning: try checked(clx_signalfd(&set)))
  }

  /// For registration with `Epoll`.
  package var rawValue: Int32 { descriptor.rawValue }

  /// The next pending signal, nil if there is none.
  package func next() -> Signal? {
    var info = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    guard clx_read(descriptor.rawValue, &info, size) == size else { return nil }
    return Signal(rawValue: Int32(info.ssi_signo))
  }
}
