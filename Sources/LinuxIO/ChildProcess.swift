internal import CLinux

/// Processes that this one has started, and those of theirs that they left behind.
package enum ChildProcess {
  /// What became of a child.
  package enum Change: Hashable, Sendable {
    case ended(Ending)
    /// By this signal.
    case stopped(Int32)
    case continued
  }

  /// How a process ended.
  package enum Ending: Hashable, Sendable {
    /// With this exit status, 0 to 255.
    case exited(Int32)
    /// Of this signal.
    case killed(Int32)
  }

  /// A copy of this process, which must have one thread (`fork(2)`).
  /// - Returns: the number of the copy; nil in the copy.
  package static func fork() throws(Errno) -> Int32? {
    let result = try checked(clx_fork())
    return result == 0 ? nil : result
  }

  /// Becomes another program, searched for in PATH (`execvp(3)`); returns only why that failed.
  package static func execute(_ command: [String]) -> Errno {
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
    arguments.append(nil)
    let result = clx_execute(command[0], arguments)
    for argument in arguments { free(argument) }
    return Errno(rawValue: -result)
  }

  /// Ends this process at once, without anything that is done at an exit.
  package static func end(_ status: Int32) -> Never { _exit(status) }

  /// Ends like a child has ended, so that whoever waits for this process sees the same.
  package static func end(like ending: Ending) -> Never {
    switch ending {
    case .exited(let status): _exit(status)
    case .killed(let signal):
      clx_forbid_core()
      clx_undergo(signal)
      _exit(128 + signal)
    }
  }

  /// Has no descriptor from this number on be inherited by what is executed.
  package static func closeOnExecution(from first: Int32) throws(Errno) {
    _ = try checked(clx_close_on_execution(UInt32(bitPattern: first)))
  }

  /// Sets a variable of the environment of what this process executes.
  package static func setEnvironment(_ name: String, _ value: String) { setenv(name, value, 1) }

  // MARK: Waiting

  /// Makes orphans of this process's descendants its own children
  /// (`prctl(2)`, PR_SET_CHILD_SUBREAPER).
  package static func adoptOrphans() throws(Errno) {
    _ = try checked(clx_set_process_option(PR_SET_CHILD_SUBREAPER, 1))
  }

  /// Has ends of children be told to this process even if its parent wanted them to be ignored (SIGCHLD).
  /// - Returns: whether that was so.
  package static func noticeChildren() -> Bool { clx_restore_signal(SIGCHLD) != 0 }

  /// Has ends of children be ignored, by what is executed as well.
  package static func ignoreChildren() { clx_ignore_signal(SIGCHLD) }

  package enum Next: Hashable, Sendable {
    case changed(process: Int32, Change)
    /// Nothing has happened to any of them.
    case nothing
    /// There are no children.
    case childless
  }

  /// What has happened to a child; does not wait.
  package static func next() -> Next {
    var change = clx_change()
    let result = clx_next_change(&change, WNOHANG)
    if result == -ECHILD { return .childless }
    guard result > 0 else { return .nothing }
    let what: Change =
      switch Int(change.how) {
      case CLD_EXITED: .ended(.exited(change.number))
      case CLD_KILLED: .ended(.killed(change.number))
      case CLD_STOPPED: .stopped(change.number)
      default: .continued
      }
    return .changed(process: change.process, what)
  }

  /// Waits until a child has ended.
  package static func wait(for process: Int32) { _ = clx_wait_for(process) }

  /// Sends a signal to a process, or with a negative number to a group; nothing if there is none.
  package static func signal(_ process: Int32, _ number: Int32) {
    _ = clx_signal_process(process, number)
  }

  /// The process group of a process, nil if it is gone.
  package static func group(of process: Int32) -> Int32? {
    let group = getpgid(process)
    return group < 0 ? nil : group
  }
}

/// Job control that waits: signals that would stop the calling thread's process do so when it is
/// released.
package struct HeldJobControl {
  private var former = sigset_t()

  package init() {
    var signals = sigset_t()
    sigemptyset(&signals)
    for signal in [SIGTSTP, SIGTTIN, SIGTTOU] { sigaddset(&signals, signal) }
    clx_hold_signals(&signals, &former)
  }

  package func release() { withUnsafePointer(to: former) { clx_set_signals($0) } }
}

/// This process itself, as others see it.
package enum ThisProcess {
  package static var identifier: Int32 { getpid() }

  /// Keeps its memory and descriptors from other processes of its user (`prctl(2)`, PR_SET_DUMPABLE).
  package static func hide() throws(Errno) {
    _ = try checked(clx_set_process_option(PR_SET_DUMPABLE, 0))
  }

  /// The number of its process group.
  package static var group: Int32 { getpgrp() }

  /// Stops, as by a signal that stops processes, until it is continued.
  package static func stop(_ signal: Int32) { clx_undergo(signal) }

  /// Takes the numbers of standard input, output and errors where they are closed, so that no descriptor
  /// of ours gets one; what is executed finds them closed again.
  package static func occupyStandardDescriptors() throws(Errno) {
    while true {
      let null = Descriptor(owning: try checked(clx_open("/dev/null", O_RDWR, 0)))
      guard null.rawValue <= STDERR_FILENO else { return }
      _ = null.take()
    }
  }

  /// Descriptors beside standard input, output and errors that what is executed would inherit.
  package static var inheritedDescriptors: [Int32] {
    directoryEntries("/proc/self/fd").compactMap { Int32($0) }
      .filter { $0 > STDERR_FILENO && clx_is_inherited($0) != 0 }
  }

  /// Closes descriptors that were inherited.
  package static func close(_ descriptors: [Int32]) {
    for descriptor in descriptors { _ = clx_close(descriptor) }
  }

  /// Closes all descriptors but one, whoever uses them.
  package static func closeAll(except kept: Int32) throws(Errno) {
    let number = UInt32(bitPattern: kept)
    if number > 0 { _ = try checked(clx_close_range(0, number - 1)) }
    _ = try checked(clx_close_range(number + 1, .max))
  }

  /// Has nothing to read, and writes nothing but errors, so that whoever is at the other end of a pipe
  /// does not wait for this process.
  package static func releaseStandardInputAndOutput() throws(Errno) {
    let null = Descriptor(owning: try checked(clx_open("/dev/null", O_RDWR, 0)))
    for number in [STDIN_FILENO, STDOUT_FILENO] {
      _ = try checked(clx_duplicate(null.rawValue, number))
    }
  }
}
