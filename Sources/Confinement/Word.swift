internal import LinuxIO
internal import Netfilter

/// What the process that becomes the program and the one that stays outside tell each other, a message
/// each. The first byte says which it is.
enum Word: Hashable, Sendable {
  // From inside.

  /// The namespaces are there.
  case prepared
  case failed(Obstacle.Step, Errno)
  case rulesFailed(NetfilterError)
  /// Descriptors come with it.
  case sockets
  /// A line to a process that makes sockets comes with it.
  case socketSupply
  /// All sockets have been sent.
  case ready
  case notExecuted(Errno)

  // From outside.

  /// Rules are to be put in place.
  case install(refusesDatagrams: Bool)
  /// The program is to be executed.
  case start

  var bytes: [UInt8] {
    switch self {
    case .prepared: [0]
    case .failed(let step, let error):
      [1, UInt8(Obstacle.Step.allCases.firstIndex(of: step) ?? 0)] + error.bytes
    case .rulesFailed(.notPermitted): [2, 0] + Errno.notPermitted.bytes
    case .rulesFailed(.heldByAnother): [2, 1] + Errno.notPermitted.bytes
    case .rulesFailed(.unsupported(let feature, let error)): [2, 2] + error.bytes + feature.utf8
    case .rulesFailed(.failed(let operation, let error)): [2, 3] + error.bytes + operation.utf8
    case .sockets: [3]
    case .socketSupply: [4]
    case .ready: [5]
    case .notExecuted(let error): [6, 0] + error.bytes
    case .install(let refusesDatagrams): [7, refusesDatagrams ? 1 : 0]
    case .start: [8]
    }
  }

  /// Nil for what no word is.
  init?(_ bytes: [UInt8]) {
    guard let kind = bytes.first else { return nil }
    let second = bytes.count > 1 ? bytes[1] : 0
    let number = bytes.dropFirst(2).prefix(4).enumerated().reduce(Int32(0)) {
      $0 | Int32($1.element) << (8 * Int32($1.offset))
    }
    let text = String(decoding: bytes.dropFirst(6), as: UTF8.self)
    let error = Errno(rawValue: number)
    switch (kind, second) {
    case (0, _): self = .prepared
    case (1, _):
      guard Int(second) < Obstacle.Step.allCases.count else { return nil }
      self = .failed(Obstacle.Step.allCases[Int(second)], error)
    case (2, 0): self = .rulesFailed(.notPermitted)
    case (2, 1): self = .rulesFailed(.heldByAnother(portID: 0))
    case (2, 2): self = .rulesFailed(.unsupported(feature: text, error))
    case (2, 3): self = .rulesFailed(.failed(operation: text, error))
    case (3, _): self = .sockets
    case (4, _): self = .socketSupply
    case (5, _): self = .ready
    case (6, _): self = .notExecuted(error)
    case (7, _): self = .install(refusesDatagrams: second == 1)
    case (8, _): self = .start
    default: return nil
    }
  }
}

extension Errno {
  /// Little-endian.
  fileprivate var bytes: [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: rawValue >> (8 * Int32($0))) }
  }
}
