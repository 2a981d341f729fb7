package import LinuxIO

/// Why rules or routes could not be put in place or taken away.
package enum NetfilterError: Error, Hashable, Sendable {
  /// The process lacks CAP_NET_ADMIN in this network namespace.
  case notPermitted
  /// Another process owns the table `sluice`.
  /// - Parameter portID: its netlink socket; mostly the process id.
  case heldByAnother(portID: UInt32)
  /// The kernel was built without something that the rules need.
  case unsupported(feature: String, Errno)
  /// Anything else.
  /// - Parameter operation: what was tried, with the object's name or nft text.
  case failed(operation: String, Errno)
}

extension NetfilterError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notPermitted:
      "changing rules needs CAP_NET_ADMIN in this network namespace"
    case .heldByAnother(let portID):
      "another process holds the table sluice (netlink port \(portID)): stop that run first"
    case .unsupported(let feature, let error):
      "this kernel lacks \(feature) (\(error))"
    case .failed(let operation, let error):
      "cannot \(operation): \(error)"
    }
  }
}
