package import LinuxIO
package import RedirectPolicy

/// A program in namespaces of its own, from outside. It is a child of this process, which must have one
/// thread until `begin` has returned.
package struct ConfinedProgram: ~Copyable {
  /// What the namespace gives to the engine outside.
  package struct Sockets: ~Copyable {
    /// By their numbers.
    package let opened: [Int32]
    /// Nil unless it was planned.
    package let supply: SocketSupply?
  }

  package let process: Int32
  private let line: DescriptorLine

  /// Begins to make the namespaces, in a process of their own.
  /// - Parameters:
  ///   - policy: of the rules there, given whether datagrams are refused; called in that process.
  ///   - count: of the sockets that the engine outside needs of the namespace.
  ///   - openSocket: makes one of them by its number, from 0 on; called there, too.
  package static func begin(
    _ plan: Plan, policy: (_ refusesDatagrams: Bool) -> ConfinementPolicy, sockets count: Int,
    _ openSocket: (Int) throws(Errno) -> Descriptor
  ) throws(Errno) -> ConfinedProgram {
    var far: DescriptorLine?
    let near = try DescriptorLine.pair(&far)
    guard let process = try ChildProcess.fork() else {
      near.close()
      guard let line = far.take() else { ChildProcess.end(0) }
      Inside(plan, line).run(policy, count, openSocket)
    }
    return ConfinedProgram(process: process, line: near)
  }

  /// Has the rules put in place, and waits for the sockets.
  package func install(refusesDatagrams: Bool) throws(Obstacle) -> Sockets {
    _ = try hear()
    say(.install(refusesDatagrams: refusesDatagrams))
    var opened: [Int32] = []
    var supply: SocketSupply?
    while true {
      var (word, descriptors) = try hear()
      switch word {
      case .sockets: opened += descriptors
      case .socketSupply:
        if let descriptor = descriptors.popLast() {
          supply = SocketSupply(DescriptorLine(Descriptor(owning: descriptor)))
        }
      case .ready: return Sockets(opened: opened, supply: supply)
      case .prepared, .failed, .rulesFailed, .notExecuted, .install, .start: break
      }
    }
  }

  /// Starts the program.
  package func start() { say(.start) }

  /// Why it was not executed, once the process has ended; nil if it was.
  package func failure() throws(Obstacle) -> Errno? {
    let message: DescriptorLine.Message?
    do { message = try line.receive() } catch { return nil }
    // The line ends when the program is executed.
    guard let message else { return nil }
    if case .notExecuted(let error) = Word(message.bytes) { return error }
    throw Self.obstacle(Word(message.bytes))
  }

  // MARK: Pieces

  private func say(_ word: Word) {
    // If the other side is gone, what is heard next tells.
    try? line.send(word.bytes)
  }

  private func hear() throws(Obstacle) -> (Word, [Int32]) {
    let message: DescriptorLine.Message?
    do { message = try line.receive() } catch { throw Self.obstacle(nil) }
    guard var message, let word = Word(message.bytes) else { throw Self.obstacle(nil) }
    switch word {
    case .failed, .rulesFailed, .notExecuted: throw Self.obstacle(word)
    case .prepared, .sockets, .socketSupply, .ready, .install, .start: return (word, message.take())
    }
  }

  private static func obstacle(_ word: Word?) -> Obstacle {
    switch word {
    case .failed(let step, let error): Obstacle(step, error)
    case .rulesFailed(let error): Obstacle(error)
    case .notExecuted, .prepared, .sockets, .socketSupply, .ready, .install, .start, nil:
      Obstacle("the process that was to become the program has ended", isForbidden: false)
    }
  }
}
