internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// Finds out where upstreams are that a run is to go through from now on, and what they can do, as the start
/// does. That blocks, and has a thread of its own.
final class UpstreamReach: Sendable {
  /// One that was asked.
  struct Arrival: Sendable {
    let chain: UpstreamChain
    let upstream: Upstream
    /// All that its name has, or the one that is given.
    let addresses: [IPAddress]
    /// Why it is out for now; nil if it has let us in.
    let obstacle: CommandFailure?
    /// Why it relays no datagrams; nil if it does, or nobody has asked.
    let refusal: DatagramRefusal?
  }

  private let mark: UInt32
  private let answers: Mailbox<Result<[Arrival], CommandFailure>>

  init(mark: UInt32) throws(Errno) {
    self.mark = mark
    answers = try Mailbox()
  }

  /// For registration with `Epoll`: readable when an answer is there.
  var wakeDescriptor: Int32 { answers.wakeDescriptor }

  /// Nil if there is none.
  func takeAnswer() -> Result<[Arrival], CommandFailure>? { answers.takeAll().last }

  /// Begins to ask.
  /// - Parameters:
  ///   - timeout: of each question.
  ///   - wantsDatagrams: ask as well whether they relay them.
  func begin(
    _ chains: [UpstreamChain], timeout: Timeout, wantsDatagrams: Bool
  ) throws(CommandFailure) {
    let thread = try startedUp { () throws(Errno) in
      try Thread(name: "sluice-reload") { [self] in
        answers.post(
          Result { () throws(CommandFailure) in
            try ask(chains, timeout: timeout, wantsDatagrams: wantsDatagrams)
          })
      }
    }
    thread.detach()
  }

  private func ask(
    _ chains: [UpstreamChain], timeout: Timeout, wantsDatagrams: Bool
  ) throws(CommandFailure) -> [Arrival] {
    var places: [[Upstream.Place]] = []
    for chain in chains { places.append(try self.places(of: chain.first)) }
    var arrivals: [Arrival] = []
    for (index, attempt) in try UpstreamSetup.attempts(
      places, chains, mark: mark, timeout: timeout
    ).enumerated() {
      let upstream = attempt.upstream
      let obstacle = UpstreamSetup.obstacle(attempt.outcome, chains[index], at: upstream.place)
      var refusal: DatagramRefusal?
      if wantsDatagrams {
        if obstacle == nil {
          refusal = UpstreamProbe.askForDatagrams(upstream, mark: mark, timeout: timeout)
        } else {
          // Found out by asking it again.
          upstream.datagramAbility = .refuses
        }
      }
      arrivals.append(
        Arrival(
          chain: chains[index], upstream: upstream,
          addresses: places[index].compactMap(\.exemption), obstacle: obstacle, refusal: refusal))
    }
    return arrivals
  }

  /// As at the start, and, where a look-up may have to go through the very upstream that is to be replaced, past
  /// that.
  private func places(of url: UpstreamURL) throws(CommandFailure) -> [Upstream.Place] {
    do {
      return try UpstreamSetup.places(url)
    } catch {
      guard case .host(.name(let name, let port))? = url.server else { throw error }
      let addresses = AddressRace.interlaced(DirectLookup(mark: mark).addresses(of: name))
      guard !addresses.isEmpty else { throw error }
      return addresses.map { .address(SocketAddress($0, port)) }
    }
  }
}
