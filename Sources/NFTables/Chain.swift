/// A list of rules: a base chain, which the kernel calls at a hook, or one that rules jump to.
package struct Chain: Hashable, Sendable {
  /// What a base chain may do (`nft(8)`, CHAINS).
  package enum Kind: String, Hashable, Sendable {
    case filter
    /// Sees only the first packet of each connection.
    case nat
    /// Routes a packet again after its mark has changed; only at `output`.
    case route
  }

  /// Where on a packet's way (`NF_INET_*` in <linux/netfilter.h>).
  package enum Hook: String, CaseIterable, Hashable, Sendable {
    case prerouting
    case input
    case forward
    case output
    case postrouting
  }

  /// Order among the chains of one hook, the lowest first (<linux/netfilter_ipv4.h>).
  package struct Priority: Hashable, Sendable {
    package let rawValue: Int32

    package init(rawValue: Int32) { self.rawValue = rawValue }

    /// Ours: before `mangle`, behind connection tracking (`NF_IP_PRI_CONNTRACK`).
    package static let beforeMangle = Priority(rawValue: -160)
    /// `NF_IP_PRI_MANGLE`.
    package static let mangle = Priority(rawValue: -150)
    /// `NF_IP_PRI_NAT_DST`.
    package static let dstnat = Priority(rawValue: -100)
    /// `NF_IP_PRI_FILTER`: behind every address translation of a destination.
    package static let filter = Priority(rawValue: 0)
  }

  /// What the kernel attaches a base chain to. Its policy is `accept`: what no rule decides passes.
  package struct Base: Hashable, Sendable {
    package var kind: Kind
    package var hook: Hook
    package var priority: Priority

    package init(_ kind: Kind, _ hook: Hook, _ priority: Priority) {
      self.kind = kind
      self.hook = hook
      self.priority = priority
    }
  }

  package var name: String
  /// Nil for a chain that is reached by `jump` and `goto` only.
  package var base: Base?
  package var rules: [Rule]

  package init(_ name: String, _ base: Base? = nil, rules: [Rule]) {
    self.name = name
    self.base = base
    self.rules = rules
  }
}

extension Chain: CustomStringConvertible {
  package var description: String {
    "\tchain \(name) {\n" + lines.map { "\t\t\($0)\n" }.joined() + "\t}"
  }

  /// The hook, if any, and each rule.
  var lines: [String] { (base.map { ["\($0)"] } ?? []) + rules.map(\.description) }
}

extension Chain.Base: CustomStringConvertible {
  /// nft 1.0.6 knows the word `dstnat` at prerouting only.
  package var description: String {
    let order =
      switch (priority, hook) {
      case (.beforeMangle, _): "mangle - 10"
      case (.mangle, _): "mangle"
      case (.dstnat, .prerouting): "dstnat"
      case (.filter, _): "filter"
      default: "\(priority.rawValue)"
      }
    return "type \(kind.rawValue) hook \(hook.rawValue) priority \(order); policy accept;"
  }
}
