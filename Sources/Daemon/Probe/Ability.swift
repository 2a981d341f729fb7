internal import Addressing

/// What an upstream can do, by one question.
struct Ability: Hashable, Sendable {
  /// By the words that are printed; they stay the same, for scripts.
  enum State: String, Hashable, Sendable {
    case works
    /// The upstream says no, or ends the connection.
    case refused
    /// There is no way to ask for it in the upstream's protocol.
    case notOffered = "not_offered"
    /// The upstream or, behind it, the target says nothing, or the wrong thing.
    case noAnswer = "no_answer"
    /// What is reachable does not tell.
    case unknown
  }

  let state: State
  /// What the upstream's reply says, in its protocol: REP of SOCKS5, CD of SOCKS4, the status of HTTP.
  var code: Int?
  /// For people.
  var reason: String?
  /// Who was asked for.
  var target: Endpoint?
  /// How long the target took, from the question to its answer.
  var microseconds: Int?

  init(
    _ state: State, code: Int? = nil, _ reason: String? = nil, target: Endpoint? = nil,
    microseconds: Int? = nil
  ) {
    self.state = state
    self.code = code
    self.reason = reason
    self.target = target
    self.microseconds = microseconds
  }

  /// - Parameter refusal: nil if the upstream has done it.
  init(refusal: Refusal?) {
    switch refusal {
    case nil: self.init(.works)
    case .code(let code, let text): self.init(.refused, code: code, text)
    case .closed: self.init(.refused, "closed without a reply")
    case .notOffered: self.init(.notOffered)
    case .silence: self.init(.noAnswer)
    case .trouble(let text): self.init(.unknown, text)
    }
  }
}

// MARK: Verdicts

// From what was observed to what it says of the upstream, and not of others.

extension Ability {
  /// The deadline came first.
  static let unanswered = Ability(.noAnswer)

  /// Of a plain connection.
  init(connecting exchange: Exchange?, to target: Endpoint) {
    switch exchange {
    case .answered(let microseconds): self.init(.works, microseconds: microseconds)
    case .connected(let microseconds): self.init(.works, microseconds: microseconds)
    case .ended: self.init(.noAnswer, "granted, but the target ended without an answer")
    case .silence: self.init(.noAnswer, "granted, but the target did not answer")
    case .refused(let refusal): self.init(refusal: refusal)
    case nil: self = .unanswered
    }
    self.target = target
  }

  /// Of the whole handshake in one write.
  /// - Parameters:
  ///   - refusals: of requests for several targets; nil where one was granted. Any reply proves it.
  ///   - plain: what came of connecting to the last of them step by step.
  init(pipelining refusals: [Refusal?], plain: Exchange?) {
    if refusals.contains(where: { $0?.isReply ?? true }) {
      self.init(.works)
      return
    }
    switch refusals.last ?? nil {
    // Some do that to every request that they cannot fulfil.
    case .closed where plain?.isConnected != true: self.init(.unknown, "closed without a reply")
    case .closed: self.init(.refused, "ends the connection")
    case .trouble(let text): self.init(.refused, text)
    case .notOffered: self.init(.notOffered)
    case .silence, .code, nil: self.init(.noAnswer, "hangs on it")
    }
  }

  /// Of bytes for the target that go out with the request.
  /// - Parameters:
  ///   - plain: the same question afterwards.
  ///   - testimony: of early bytes to a target of our own; nil if that is out of reach.
  init(early: Exchange?, plain: Exchange?, testimony: Witness.Testimony?) {
    switch (early, plain, testimony) {
    case (.answered, _, _), (_, _, .answered): self.init(.works)
    case (.ended, .answered, _), (.refused(.closed), .answered, _):
      self.init(.refused, "ends the connection")
    case (_, .answered, _), (_, _, .lost): self.init(.noAnswer, "drops them")
    default: self.init(.unknown, "no target answers through it")
    }
  }
}

/// What was seen of ends of streams that were passed on, or not.
struct HalfCloseEvidence: Hashable, Sendable {
  /// Questions to a resolver with nothing special about them.
  var plain: [Exchange] = []
  /// The same, with the end of what we send right behind.
  var ending: [Exchange] = []
  /// Of the same to a target of our own; nil if that is out of reach.
  var testimony: Witness.Testimony?
  /// What the resolver does without the upstream; nil if it was not asked.
  var direct: Exchange?

  /// By how much the end of a connection has to precede an answer for its cause to be nearer.
  private static let minimumLeadMicroseconds = 5000

  enum Verdict: Hashable, Sendable {
    /// The rest of the answer comes.
    case passes
    /// The upstream drops it.
    case drops
    case unknown
  }

  var verdict: Verdict {
    if let testimony { return testimony == .answered ? .passes : .drops }
    guard isAsked else { return .unknown }
    // Even one that is lost counts: the others may have been faster than the end.
    if connected.allSatisfy(\.isAnswered) { return .passes }
    if direct?.isAnswered == true || endsAreNearer { return .drops }
    return .unknown
  }

  /// Of the questions with an end, those that had a connection.
  private var connected: [Exchange] {
    ending.filter(\.isConnected)
  }

  /// Whether the resolver can be asked through the upstream at all.
  var isAsked: Bool { !connected.isEmpty && plain.contains(where: \.isAnswered) }

  /// Whether a connection ended so much sooner than any answer came that the end cannot have been the
  /// target's doing, to which it is as far.
  private var endsAreNearer: Bool {
    let answers = plain.compactMap { exchange -> Int? in
      if case .answered(let time) = exchange { time } else { nil }
    }
    let ends = ending.compactMap { exchange -> Int? in
      if case .ended(let time) = exchange { time } else { nil }
    }
    guard let answer = answers.min(), let end = ends.min() else { return false }
    return end * 3 < answer && answer - end >= Self.minimumLeadMicroseconds
  }

  /// Whether asking the resolver without the upstream would tell more.
  var wantsDirect: Bool { verdict == .unknown && isAsked && direct == nil }
}

extension Ability {
  init(_ evidence: HalfCloseEvidence) {
    switch evidence.verdict {
    case .passes: self.init(.works)
    case .drops: self.init(.refused, "drops the rest of the answer")
    case .unknown:
      self.init(
        .unknown,
        evidence.isAsked
          ? "the answer is lost, but the resolver may be the one who drops it"
          : "no target answers through it")
    }
  }
}
