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
  package let balance: Balance

  package init(_ member: UpstreamChain) { self.init([member], .failover) }

  /// - Parameter members: at least one.
  package init(_ members: [UpstreamChain], _ balance: Balance) {
    self.members = members
    self.balance = balance
  }

  init(_ options: Options) throws(ConfigurationError) {
    let urls = options.upstreams
    guard urls.count <= Self.maximumMembers else {
      throw ConfigurationError(
        "\(urls.count) upstreams: expected at most \(Self.maximumMembers)")
    }
    members = []
    for url in urls {
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

  /// Whether there is a choice.
  package var isPlural: Bool { members.count > 1 }

  /// What flows fill in in users and passwords.
  package var placeholders: Set<IdentityTemplate.Placeholder> {
    members.reduce(into: []) { $0.formUnion($1.placeholders) }
  }

  /// Why none of them carries datagrams; nil if one may.
  package var obstacleToDatagrams: String? {
    let obstacles = members.compactMap(\.obstacleToDatagrams)
    return obstacles.count == members.count ? obstacles.first : nil
  }

  /// The member at an index, for people.
  package func name(of member: Int) -> String { "\(members[member])" }
}

extension UpstreamSelection: CustomStringConvertible {
  package var description: String {
    let names = members.map { "\($0)" }
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
