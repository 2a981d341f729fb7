internal import CLinux

/// A signal that ends a daemon, or has it do something.
package enum Signal: Int32, CaseIterable, Sendable {
  case hangUp = 1  // SIGHUP
  case interrupt = 2  // SIGINT
  case userDefined1 = 10  // SIGUSR1
  case userDefined2 = 12  // SIGUSR2
  case terminate = 15  // SIGTERM
}

/// A signal that concerns a program that is a child of this process, or is meant for it.
package enum ProgramSignal: Int32, CaseIterable, Sendable {
  case hangUp = 1  // SIGHUP
  case interrupt = 2  // SIGINT
  case quit = 3  // SIGQUIT
  case userDefined1 = 10  // SIGUSR1
  case userDefined2 = 12  // SIGUSR2
  case alarm = 14  // SIGALRM
  case terminate = 15  // SIGTERM
  case childChanged = 17  // SIGCHLD
  case continued = 18  // SIGCONT
  case terminalStop = 20  // SIGTSTP
  case backgroundRead = 21  // SIGTTIN
  case backgroundWrite = 22  // SIGTTOU
  case windowChanged = 28  // SIGWINCH
}

/// A signal that concerns a program with a screen of its own.
package enum ScreenSignal: Int32, CaseIterable, Sendable {
  case hangUp = 1  // SIGHUP
  case interrupt = 2  // SIGINT
  case quit = 3  // SIGQUIT
  case terminate = 15  // SIGTERM
  case terminalStop = 20  // SIGTSTP
  case windowChanged = 28  // SIGWINCH
}

/// Signals as input of a loop (`signalfd(2)`) instead of interruptions anywhere.
package struct SignalReader<Kind: RawRepresentable<Int32> & CaseIterable>: ~Copyable {
  package struct Arrival {
    package let signal: Kind
    /// By a process, not by the kernel for a terminal or a child.
    package let isSent: Bool
  }

  private let descriptor: Descriptor

  /// Blocks every signal of the kind in the calling thread, and so in all threads that it starts later,
  /// and ignores SIGPIPE.
  package init() throws(Errno) {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in Kind.allCases { sigaddset(&set, signal.rawValue) }
    _ = try checked(clx_block_signals(&set))
    System.ignoreBrokenPipes()
    descriptor = Descriptor(owning: try checked(clx_signalfd(&set)))
  }

  /// For registration with `Epoll`.
  package var rawValue: Int32 { descriptor.rawValue }

  /// The next pending signal, nil if there is none.
  package func next() -> Arrival? {
    var info = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    guard clx_read(descriptor.rawValue, &info, size) == size,
      let signal = Kind(rawValue: Int32(info.ssi_signo))
    else { return nil }
    // sigaction(2): codes of signals that a process has sent are not positive.
    return Arrival(signal: signal, isSent: info.ssi_code <= 0)
  }
}
