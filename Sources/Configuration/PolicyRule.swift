package import Addressing

/// What becomes of captured flows that have all of these properties, as it is written:
/// `name=mail ports=25,465-587 addresses=203.0.113.0/24 to=relay`. Of each property one of several values has
/// to hold, and what is left out holds for every flow.
package struct PolicyRule: Hashable, Sendable {
  package enum Target: Hashable, Sendable {
    /// The upstreams that flows go through without rules.
    case standard
    /// Those of this name.
    case upstream(String)
    /// None: from here straight to the destination.
    case direct
    /// Nowhere.
    case reject
  }

  /// The words of a rule, each with an equals sign and values behind it.
  package enum Key: String, CaseIterable, Sendable {
    case name, protocols, ports, addresses, sources, uids, names, to
  }

  package enum Transport: String, Hashable, Sendable, CaseIterable { case tcp, udp }

  /// A host's name, or any below one.
  package struct NamePattern: Hashable, Sendable {
    /// In lower case, without a dot at either end.
    package let name: String
    /// Names below it are meant, and not it itself.
    package let isBelow: Bool
  }

  package static let maximumRules = 255

  /// As it is written.
  package let text: String
  /// What people call it, if it has no name `rule N`.
  package private(set) var name: String
  /// In messages: the name that it was given, or its number.
  package private(set) var label: String
  package private(set) var protocols: Set<Transport> = []
  package private(set) var ports: [ClosedRange<UInt16>] = []
  package private(set) var addresses: [CIDR] = []
  /// Of who sends it.
  package private(set) var sources: [CIDR] = []
  package private(set) var users: [Identity] = []
  package private(set) var names: [NamePattern] = []
  package private(set) var target = Target.standard

  /// Parses a rule.
  /// - Parameter number: which of all it is, from 1 on.
  package init(_ text: String, number: Int) throws(ConfigurationError) {
    self.init(text: text, number: number)
    var seen: Set<Key> = []
    for word in text.split(whereSeparator: { $0 == " " || $0 == "\t" || $0 == "\n" }) {
      let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, let key = Key(rawValue: String(parts[0])) else {
        throw ConfigurationError(
          "--rule: \(word): expected \(Self.keys), each with = and its values behind it")
      }
      guard seen.insert(key).inserted else {
        throw ConfigurationError(
          "--rule: \(key.rawValue) is there twice: several values are joined by commas")
      }
      try set(key, String(parts[1]))
    }
    guard seen.contains(.to) else {
      throw ConfigurationError(
        "--rule: \(text): expected to=…, the name of an upstream, default, direct or reject")
    }
    if target == .direct, concerns(.udp) {
      throw ConfigurationError(
        "--rule: \(text): UDP does not go directly from here: add protocols=tcp, and give UDP that shall "
          + "not be captured to --bypass or --bypass-port")
    }
  }

  /// Whether it may hold for flows of a transport.
  package func concerns(_ transport: Transport) -> Bool {
    protocols.isEmpty || protocols.contains(transport)
  }

  private init(text: String, number: Int) {
    self.text = text
    name = "rule \(number)"
    label = "\(number)"
  }

  /// Whether one property can be that; throws if not.
  /// - Parameter values: joined by commas.
  package static func check(_ key: Key, _ values: String) throws(ConfigurationError) {
    var rule = PolicyRule(text: "", number: 1)
    try rule.set(key, values)
  }

  /// For messages.
  private static let keys: String = {
    let names = Key.allCases.map(\.rawValue)
    return names.dropLast().joined(separator: ", ") + " or " + (names.last ?? "")
  }()

  private mutating func set(_ key: Key, _ text: String) throws(ConfigurationError) {
    let values = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    let setting = "--rule: \(key.rawValue)"
    switch key {
    case .name:
      name = try Self.name(text, setting)
      label = name
    case .to: target = try Self.target(text, setting)
    case .protocols:
      for value in values {
        guard let transport = Transport(rawValue: value) else {
          throw ConfigurationError("\(setting) \(value): expected tcp or udp")
        }
        protocols.insert(transport)
      }
    case .ports: for value in values { ports.append(try parsePorts(value, setting)) }
    case .addresses: for value in values { addresses.append(try parseBlock(value, setting)) }
    case .sources: for value in values { sources.append(try parseBlock(value, setting)) }
    case .uids: for value in values { users.append(try parseIdentity(value, setting)) }
    case .names: for value in values { names.append(try NamePattern(value, setting)) }
    }
  }

  private static func name(_ text: String, _ setting: String) throws(ConfigurationError) -> String {
    guard (1...64).contains(text.utf8.count), let first = text.first, first.isLetter,
      text.utf8.allSatisfy({ isOfWord($0) || $0 == UInt8(ascii: ".") })
    else {
      throw ConfigurationError(
        "\(setting) \(text): expected a letter, and then at most 63 letters, digits, -, _ and .")
    }
    return text
  }

  private static func target(
    _ text: String, _ setting: String
  ) throws(ConfigurationError) -> Target {
    switch text {
    case "default": return .standard
    case "direct": return .direct
    case "reject": return .reject
    default:
      guard !text.isEmpty, text.utf8.allSatisfy(isOfWord) else {
        throw ConfigurationError(
          "\(setting) \(text): expected the name of an upstream, default, direct or reject")
      }
      return .upstream(text)
    }
  }
}

extension PolicyRule.NamePattern {
  fileprivate init(_ text: String, _ setting: String) throws(ConfigurationError) {
    var name = Substring(text.lowercased())
    isBelow = name.hasPrefix("*.")
    if isBelow { name = name.dropFirst(2) }
    if name.hasSuffix(".") { name = name.dropLast() }
    guard (1...253).contains(name.utf8.count), !name.hasPrefix("."), !name.hasSuffix("."),
      name.utf8.allSatisfy({ isOfWord($0) || $0 == UInt8(ascii: ".") })
    else {
      throw ConfigurationError(
        "\(setting) \(text): expected a host name, such as example.com, or *.example.com for all below it"
      )
    }
    self.name = String(name)
  }
}

extension PolicyRule {
  /// The members that datagrams may go through, by the rules.
  static func datagramCarriers(_ rules: [PolicyRule], _ upstreams: UpstreamSelection) -> [Int] {
    var carriers = Set(upstreams.defaults)
    for rule in rules where rule.concerns(.udp) {
      if case .upstream(let name) = rule.target {
        carriers.formUnion(upstreams.members(named: name))
      }
    }
    return carriers.sorted()
  }

  /// All rules, each of which leads somewhere.
  static func rules(
    _ texts: [String], _ upstreams: UpstreamSelection
  ) throws(ConfigurationError) -> [PolicyRule] {
    guard texts.count <= maximumRules else {
      throw ConfigurationError("--rule: \(texts.count) rules: expected at most \(maximumRules)")
    }
    var rules: [PolicyRule] = []
    for (index, text) in texts.enumerated() {
      let rule = try PolicyRule(text, number: index + 1)
      guard !rules.contains(where: { $0.name == rule.name }) else {
        throw ConfigurationError("--rule \(rule.label): there are two of this name")
      }
      if case .upstream(let name) = rule.target, upstreams.members(named: name).isEmpty {
        let known = Set(upstreams.names.compactMap(\.self)).sorted().joined(separator: ", ")
        throw ConfigurationError(
          "--rule \(rule.label): no upstream is named \(name)"
            + (known.isEmpty
              ? ": name one, as in --upstream \(name)=socks5://…" : ", but there is \(known)"))
      }
      rules.append(rule)
    }
    return rules
  }
}

private func isOfWord(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
    true
  default: false
  }
}
