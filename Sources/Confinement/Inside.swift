internal import Addressing
internal import LinuxIO
internal import Netfilter
internal import RedirectPolicy

/// The process that becomes the program, from its beginning to there. It has one thread, a copy of
/// everything that the process outside had, and the line to that.
struct Inside: ~Copyable {
  let plan: Plan
  let line: DescriptorLine
  /// If this process stopped on its way, the one outside would wait for it.
  private let jobControl = HeldJobControl()

  init(_ plan: Plan, _ line: consuming DescriptorLine) {
    self.plan = plan
    self.line = line
  }

  /// - Parameters:
  ///   - policy: of the rules, given whether datagrams are refused.
  ///   - openSocket: makes, in the namespace, one of the sockets that the engine outside is given.
  func run(
    _ policy: (_ refusesDatagrams: Bool) -> ConfinementPolicy,
    _ socketCount: Int, _ openSocket: (Int) throws(Errno) -> Descriptor
  ) -> Never {
    do throws(Failure) {
      try enterNamespaces()
      say(.prepared)
      guard case .install(let refusesDatagrams) = next() else { ChildProcess.end(0) }
      try install(policy(refusesDatagrams))
      try handOut(socketCount, openSocket)
      if plan.suppliesSockets { try supplySockets() }
      say(.ready)
      guard case .start = next() else { ChildProcess.end(0) }
      try becomeProgram()
    } catch {
      switch error {
      case .step(let step, let errno): say(.failed(step, errno))
      case .rules(let error): say(.rulesFailed(error))
      case .execution(let errno): say(.notExecuted(errno))
      }
    }
    ChildProcess.end(0)
  }

  private enum Failure: Error {
    case step(Obstacle.Step, Errno)
    case rules(NetfilterError)
    case execution(Errno)
  }

  private func step<Result: ~Copyable>(
    _ step: Obstacle.Step, _ body: () throws(Errno) -> Result
  ) throws(Failure) -> Result {
    do { return try body() } catch { throw .step(step, error) }
  }

  // MARK: Words

  /// If the other side is gone there is nobody to tell, and `next` ends this process.
  private func say(_ word: Word, _ descriptors: [Int32] = []) {
    try? line.send(word.bytes, descriptors)
  }

  /// Nil when the process outside has ended, or given up.
  private func next() -> Word? {
    guard let message = try? line.receive() else { return nil }
    return Word(message.bytes)
  }

  // MARK: Namespaces

  private func enterNamespaces() throws(Failure) {
    if plan.isolation == .user {
      try step(.userNamespace) { () throws(Errno) in try Namespaces.enterUser() }
    }
    try step(.networkNamespace) { () throws(Errno) in try Namespaces.enterNetwork() }
    try step(.mountNamespace) { () throws(Errno) in try Namespaces.enterMounts() }
    try step(.mounts) { () throws(Errno) in
      try HostServices(
        plan.coveredDirectories, files: plan.coveredFiles, resolverFile: plan.resolverFile
      ).hide()
    }
    try step(.interface) { () throws(Errno) in try Sandbox.furnish(addresses: plan.addresses, .here)
    }
    Sandbox.leavePacing()
  }

  private func install(_ policy: ConfinementPolicy) throws(Failure) {
    do {
      try RuleInstaller(ownership: .none).install(policy.table(), RoutingPlan())
    } catch {
      throw .rules(error)
    }
  }

  // MARK: Sockets

  private func handOut(
    _ count: Int, _ openSocket: (Int) throws(Errno) -> Descriptor
  ) throws(Failure) {
    try step(.sockets) { () throws(Errno) in
      for first in stride(from: 0, to: count, by: DescriptorLine.maximumDescriptors) {
        var sockets: [Int32] = []
        for index in first..<min(first + DescriptorLine.maximumDescriptors, count) {
          sockets.append(try openSocket(index).take())
        }
        try line.send(Word.sockets.bytes, sockets)
        ThisProcess.close(sockets)
      }
    }
  }

  /// Leaves a process in the namespace that makes sockets for the engine as long as that wants them. It
  /// is no child of the program's.
  private func supplySockets() throws(Failure) {
    try step(.sockets) { () throws(Errno) in
      var far: DescriptorLine?
      let near = try DescriptorLine.pair(&far)
      guard let between = try ChildProcess.fork() else {
        guard (try? ChildProcess.fork()) == .some(nil) else { ChildProcess.end(0) }
        SocketMaker(near).run()
      }
      ChildProcess.wait(for: between)
      guard let far else { return }
      try line.send(Word.socketSupply.bytes, [far.rawValue])
    }
  }

  // MARK: Program

  private func becomeProgram() throws(Failure) {
    try step(.capabilities) { () throws(Errno) in
      switch plan.isolation {
      case .user: try Capabilities.dropAll()
      case .privileged: try Capabilities.dropNetworkControl()
      }
    }
    for (name, value) in plan.environment { ChildProcess.setEnvironment(name, value) }
    // The line is among them: it closes when the program is executed, and not before.
    try step(.descriptors) { () throws(Errno) in
      try ChildProcess.closeOnExecution(from: 3 + plan.preservedDescriptors)
    }
    if plan.ignoresChildren { ChildProcess.ignoreChildren() }
    jobControl.release()
    throw .execution(ChildProcess.execute(plan.command))
  }
}
