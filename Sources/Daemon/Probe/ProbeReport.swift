internal import DataPlane
internal import SOCKS

/// What `sluice probe` has found out.
struct ProbeReport: Sendable {
  /// The upstream's name for people.
  let upstream: String
  /// How it has been let in, and how long that took.
  var waits = ProbeConnection.Waits()
  /// By the names of `MethodInquiry.methods`; empty where there are none to choose from.
  var methods: [(name: String, ability: Ability)] = []
  /// By names that stay the same, for scripts.
  var abilities: [(name: String, ability: Ability)] = []
  var mapping = DatagramFinding.Mapping.unknown

  // MARK: People

  var text: String {
    var lines = ["\(upstream) lets us in", "handshake: \(handshake)"]
    lines += Self.table(methods.map { ("method_\($0.name)", $0.ability.words) })
    lines += Self.table(abilities.map { ($0.name, $0.ability.words) })
    if mapping != .unknown { lines += Self.table([("udp_mapping", [mapping.words])]) }
    return lines.map { "\($0)\n" }.joined()
  }

  private var handshake: String {
    let steps = [("connection", waits.connect)] + phases.map { ($0.name, $0.microseconds) }
    let times = steps.map { "\($0.0) \(Self.milliseconds($0.1)) ms" }.joined(separator: ", ")
    return "\(waits.roundTrips) round trips: \(times)"
  }

  /// Names and words in columns.
  private static func table(_ rows: [(name: String, words: [String])]) -> [String] {
    rows.map { name, words -> String in
      let columns = [name] + words
      return columns.indices.map { index -> String in
        let width = index == 0 ? 18 : 13
        let text = columns[index]
        let isLast = index == columns.count - 1
        return isLast ? text : text + String(repeating: " ", count: max(1, width - text.count))
      }.joined()
    }
  }

  // MARK: Programs

  var json: String {
    var times: [(name: String, value: JSON?)] = [
      ("connect", .number(Self.milliseconds(waits.connect)))
    ]
    for (name, microseconds) in phases {
      times.append((name, .number(Self.milliseconds(microseconds))))
    }
    var members: [(name: String, value: JSON?)] = [
      ("upstream", .text(upstream)), ("round_trips", .number(Double(waits.roundTrips))),
      ("milliseconds", .object(times)),
    ]
    if !methods.isEmpty { members.append(("methods", .object(Self.members(methods)))) }
    members += Self.members(abilities)
    members.append(("udp_mapping", .object([("state", .text(mapping.rawValue))])))
    return JSON.object(members).description
  }

  private static func members(
    _ abilities: [(name: String, ability: Ability)]
  ) -> [(name: String, value: JSON?)] {
    abilities.map { (name: $0.name, value: $0.ability.json) }
  }

  private var phases: [(name: String, microseconds: Int)] {
    let order: [(HandshakePhase, String)] = [
      (.methodSelection, "method"), (.authentication, "authentication"), (.reply, "request"),
      (.answer, "request"),
    ]
    return order.compactMap { phase, name in waits.handshake[phase].map { (name, $0) } }
  }

  /// To a tenth.
  fileprivate static func milliseconds(_ microseconds: Int) -> Double {
    (Double(microseconds) / 100).rounded() / 10
  }
}

extension Ability {
  fileprivate var words: [String] {
    let what = [
      code.map { "code \($0)" + (reason.map { ", \($0)" } ?? "") } ?? reason,
      target.map { "\($0)" },
      microseconds.map { "\(ProbeReport.milliseconds($0)) ms" },
    ].compactMap(\.self)
    let state = state.rawValue.split(separator: "_").joined(separator: " ")
    return what.isEmpty ? [state] : [state, what.joined(separator: ", ")]
  }

  fileprivate var json: JSON {
    .object([
      ("state", .text(state.rawValue)),
      ("code", code.map { .number(Double($0)) }),
      ("reason", reason.map(JSON.text)),
      ("target", target.map { .text("\($0)") }),
      ("milliseconds", microseconds.map { .number(ProbeReport.milliseconds($0)) }),
    ])
  }
}

extension DatagramFinding.Mapping {
  fileprivate var words: String {
    switch self {
    case .endpointIndependent: "one address and port for all targets"
    case .endpointDependent: "each target sees another"
    case .unknown: "unknown"
    }
  }
}
