/// Where captured traffic goes: one upstream, or a group of them and how it is shared out.
package struct UpstreamSelection: Hashable, Sendable {
  /// By which rule a flow's upstream is chosen.
  package enum Balance: String, Hashable, Sendable, CaseIterable {
    /// The first that lives.
    case failover
    case roundRobin = "round-robin"
    /// A client stays with one.
    case hash
    /// A destination does.
    case hashDestination = "hash-destination"
    /// The one that answers fastest.
    case fastest
    /// The one whose reply is first.
    case race
  }

  package static let maximumMembers = 16

  /// At least one; several have all a server of their own.
  package private(set) var members: [UpstreamChain]
  /// Of each member, which it may share with others; nil where it was given none.
  package let names: [String?]
  package let balance: Balance

  package init(_ member: UpstreamChain) { self.init([member], .failover) }

  /// - Parameter members: at least one, none of them with a name.
  package init(_ members: [UpstreamChain], _ balance: Balance) {
    self.members = members
    names = members.map { _ in nil }
    self.balance = balance
  }

  init(_ options: Options) throws(ConfigurationError) {
    let urls = options.upstreams
    guard urls.count <= Self.maximumMembers else {
      throw ConfigurationError(
        "\(urls.count) upstreams: expected at most \(Self.maximumMembers)")
    }
    members = []
    names = try urls.map { (text) throws(ConfigurationError) in try Self.name(in: text) }
    for url in urls.map(Self.url) {
      do {
        var member = try UpstreamChain(url)
        if let password = options.password, member.lacksPassword {
          try member.setPassword(password.bytes)
        }
        members.append(member)
      } catch {
        // Where there may be a password, the text is not repeated.
        throw ConfigurationError(url.contains("@") ? "\(error)" : "\(url): \(error)")
      }
    }
    balance = try choice(options.balance, "--balance") ?? .failover
    guard members.count > 1 else {
      guard options.balance == nil else {
        throw ConfigurationError(
          "--balance chooses among several upstreams: give the others with --upstream")
      }
      return
    }
    if let alone = members.first(where: \.first.isThisProcess) {
      throw ConfigurationError(
        "\(alone): no server but this process itself: expected URLs alone in a group of upstreams")
    }
    if let index = members.indices.first(where: { members[..<$0].contains(members[$0]) }) {
      throw ConfigurationError("--upstream: \(members[index]) is given twice")
    }
  }

  /// Whether others are the same and in the same order, however they are chosen from.
  func hasMembers(of others: UpstreamSelection) -> Bool {
    members == others.members && names == others.names
  }

  /// Whether there is a choice.
  package var isPlural: Bool { members.count > 1 }

  /// What flows fill in in users and passwords.
  package var placeholders: Set<IdentityTemplate.Placeholder> {
    members.reduce(into: []) { $0.formUnion($1.placeholders) }
  }

  /// Why none of those carries datagrams that flows go through unless a rule sends them elsewhere; nil if
  /// one may.
  package var obstacleToDatagrams: String? { obstacleToDatagrams(of: defaults) }

  /// Why none of some does.
  func obstacleToDatagrams(of some: [Int]) -> String? {
    let carriers = some.map { members[$0] }
    let obstacles = carriers.compactMap(\.obstacleToDatagrams)
    return obstacles.count == carriers.count ? obstacles.first : nil
  }

  /// The member at an index, for people.
  package func name(of member: Int) -> String { "\(members[member])" }
}

// MARK: Names

extension UpstreamSelection {
  /// What rules say in place of a name.
  private static let reservedNames = ["default", "direct", "reject"]

  /// The members that a flow goes through unless a rule sends it elsewhere: those without a name, or, where
  /// all have one, those of the first one's. At least one.
  package var defaults: [Int] { members(named: names.contains(nil) ? nil : names[0]) }

  /// The members of a name, or those without one.
  package func members(named name: String?) -> [Int] { names.indices.filter { names[$0] == name } }

  /// The members that share flows out among each other, the default ones first; each is in one.
  package var sets: [[Int]] {
    let first = defaults
    var sets = [first]
    for member in members.indices where !sets.joined().contains(member) {
      sets.append(members(named: names[member]))
    }
    return sets
  }

  /// A member as it is given, without its password: `name=URL`.
  package func label(of member: Int) -> String {
    (names[member].map { "\($0)=" } ?? "") + "\(members[member])"
  }

  /// The URLs of an upstream as it is given, which may have a name and `=` before them.
  package static func url(_ text: String) -> String {
    guard let name = prefix(of: text) else { return text }
    return String(text.dropFirst(name.count + 1))
  }

  private static func name(in text: String) throws(ConfigurationError) -> String? {
    guard let name = prefix(of: text) else { return nil }
    guard let first = name.utf8.first, UInt8(ascii: "a")...UInt8(ascii: "z") ~= first,
      !reservedNames.contains(name), name.utf8.allSatisfy(isOfName)
    else {
      throw ConfigurationError(
        "--upstream \(name)=…: expected a name of lower-case letters, digits and -, such as "
          + "tor=socks5://127.0.0.1:9050, other than default, direct and reject")
    }
    return name
  }

  /// What stands before the `=` of a text, unless it is a part of a URL.
  private static func prefix(of text: String) -> String? {
    guard let end = text.firstIndex(of: "=") else { return nil }
    let prefix = text[..<end]
    let isWord = prefix.utf8.allSatisfy {
      isOfName($0) || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0 || $0 == UInt8(ascii: "_")
    }
    return isWord ? String(prefix) : nil
  }

  private static func isOfName(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
      UInt8(ascii: "-"):
      true
    default: false
    }
  }
}

extension UpstreamSelection: CustomStringConvertible {
  package var description: String {
    let names = members.indices.map(label)
    guard let last = names.last, isPlural else { return names.joined() }
    return "\(names.dropLast().joined(separator: ", ")) and \(last) (\(balance.rawValue))"
  }
}

extension Options {
  /// The URLs of all upstreams, at least one.
  package var upstreams: [String] {
    let given = [upstream].compactMap { $0 } + furtherUpstreams
    return given.isEmpty ? ["embedded"] : given
  }
}
