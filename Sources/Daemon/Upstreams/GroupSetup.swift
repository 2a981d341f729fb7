internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import SOCKS
internal import Synchronization

// From the URLs of a group to upstreams of which at least one has answered.

extension UpstreamSetup {
  /// Where each of the upstreams listens.
  static func places(
    _ upstreams: UpstreamSelection
  ) throws(CommandFailure) -> [[Upstream.Place]] {
    var places: [[Upstream.Place]] = []
    for member in upstreams.members { places.append(try Self.places(member.first)) }
    return places
  }

  /// The same, for a run that goes on looking names up: those that do not lead anywhere yet are nowhere.
  static func placesSoFar(
    _ upstreams: UpstreamSelection
  ) throws(CommandFailure) -> [[Upstream.Place]] {
    var places: [[Upstream.Place]] = []
    for member in upstreams.members {
      if let name = member.first.hostName, NameResolution.addresses(of: name).isEmpty {
        places.append([.nowhere])
      } else {
        places.append(try Self.places(member.first))
      }
    }
    return places
  }

  /// The upstreams, all asked at once. Those of a group that do not let us in are told, and out until they
  /// do, and so is one whose name leads nowhere yet.
  /// - Parameter places: of each.
  /// - Throws: if none lets us in, and none is nowhere.
  static func reach(
    _ places: [[Upstream.Place]], _ upstreams: UpstreamSelection, mark: UInt32?, timeout: Timeout,
    log: Logger
  ) throws(CommandFailure) -> UpstreamGroup {
    guard upstreams.isPlural else {
      let chain = upstreams.members[0]
      guard places[0] == [.nowhere],
        let attempt = try attempt(places[0], chain, mark: mark, timeout: timeout)
      else { return UpstreamGroup(try reach(places[0], chain, mark: mark, timeout: timeout)) }
      if let failure = obstacle(attempt.outcome, chain, at: .nowhere) {
        log.warning(
          "\(failure.message) (looking it up until it leads somewhere)",
          metadata: ["event": "name_unresolved"])
      }
      return UpstreamGroup(attempt.upstream)
    }
    let attempts = try attempts(places, upstreams.members, mark: mark, timeout: timeout)
    let group = try startedUp { () throws(Errno) in
      try UpstreamGroup(
        attempts.map(\.upstream), Balance(upstreams.balance),
        sets: upstreams.sets.map { MemberSet($0) })
    }
    var failures: [(member: Int, failure: CommandFailure)] = []
    for (member, attempt) in attempts.enumerated() {
      do {
        _ = try admit(attempt, upstreams.members[member])
      } catch {
        failures.append((member, error))
        group.takeOut(member, after: attempt.outcome.failure ?? .connectFailed, isTold: true)
      }
    }
    guard failures.count < attempts.count || places.contains([.nowhere]) else {
      throw CommandFailure(
        "none of the upstreams lets us in: "
          + failures.map(\.failure.message).joined(separator: "; "),
        failures[0].failure.status)
    }
    for (member, failure) in failures { log.tellOut(member, failure, of: group) }
    return group
  }

  /// What came of asking each of some upstreams, all at once.
  /// - Parameter places: of each.
  static func attempts(
    _ places: [[Upstream.Place]], _ upstreams: [UpstreamChain], mark: UInt32?, timeout: Timeout
  ) throws(CommandFailure) -> [Attempt] {
    var attempts: [Attempt] = []
    for (member, result) in ask(places, upstreams, mark: mark, timeout: timeout).enumerated() {
      guard let attempt = try result.get() else {
        throw CommandFailure("\(upstreams[member]) has no address", .unavailable)
      }
      attempts.append(attempt)
    }
    return attempts
  }

  private static func ask(
    _ places: [[Upstream.Place]], _ upstreams: [UpstreamChain], mark: UInt32?, timeout: Timeout
  ) -> [Result<Attempt?, CommandFailure>] {
    let answers = Answers(count: upstreams.count)
    for (member, chain) in upstreams.enumerated() {
      let question: @Sendable () -> Void = {
        answers.add(
          Result { () throws(CommandFailure) in
            try attempt(places[member], chain, mark: mark, timeout: timeout)
          }, of: member)
      }
      do {
        try Thread(name: "sluice-start", question).detach()
      } catch {
        question()
      }
    }
    return answers.wait()
  }

  /// What the threads that ask leave for the one that waits.
  private final class Answers: Sendable {
    private let results: Mutex<[Result<Attempt?, CommandFailure>?]>
    private let arrivals = Semaphore()

    init(count: Int) { results = Mutex(Array(repeating: nil, count: count)) }

    func add(_ result: Result<Attempt?, CommandFailure>, of member: Int) {
      results.withLock { $0[member] = result }
      arrivals.signal()
    }

    /// Blocks until all are there.
    func wait() -> [Result<Attempt?, CommandFailure>] {
      let count = results.withLock { $0.count }
      for _ in 0..<count { arrivals.wait() }
      return results.withLock { $0.compactMap { $0 } }
    }
  }
}

extension Logger {
  /// Tells that a member of a group does not let us in.
  func tellOut(_ member: Int, _ failure: CommandFailure, of group: UpstreamGroup) {
    let remedy =
      group.companions(of: member).count > 1
      ? "going through the others until it lets us in" : "asking until it lets us in"
    warning("\(failure.message) (\(remedy))", metadata: ["event": "member_down"])
  }
}

extension UpstreamGroup {
  /// Whether a member of several is out.
  func isOut(_ member: Int) -> Bool { isPlural && !alive.contains(member) }

  /// Finds out which members relay datagrams; blocks like `UpstreamProbe.askForDatagrams`. Those that are
  /// out are asked later.
  /// - Returns: why none does.
  func askForDatagrams(mark: UInt32?, timeout: Timeout) -> DatagramRefusal? {
    var refusal: DatagramRefusal?
    for (index, member) in members.enumerated()
    where datagramMembers.contains(index) && !isOut(index) {
      let answer = UpstreamProbe.askForDatagrams(
        member, member: index, mark: mark, timeout: timeout)
      refusal = refusal ?? answer
      if answer == nil { return nil }
    }
    // One that is out may relay them: that is found out by asking it again.
    for (index, member) in members.enumerated() where isOut(index) {
      member.datagramAbility = .refuses
    }
    return refusal
  }
}

extension Balance {
  init(_ balance: UpstreamSelection.Balance) {
    self =
      switch balance {
      case .failover: .failover
      case .roundRobin: .roundRobin
      case .hash: .hash
      case .hashDestination: .hashDestination
      case .fastest: .fastest
      case .race: .race
      }
  }
}
