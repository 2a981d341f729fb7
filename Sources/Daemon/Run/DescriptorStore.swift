internal import Addressing
internal import DataPlane
internal import LinuxIO
internal import Logging

/// What one run leaves to the next with the service manager, which holds copies of it meanwhile
/// (`systemd.service(5)`, FileDescriptorStoreMax=): the listeners, where connections wait; the sockets for
/// captured datagrams, where those wait; the netlink socket that the rules belong to, so that they stay; and what
/// forwarding was before it was turned on, in a file in memory.
///
/// Sockets that only send, for answers, are nothing to keep: each run opens its own.
final class DescriptorStore {
  private static let rulesName = "rules"
  private static let forwardingName = "forwarding"
  /// Bytes of a record of forwarding that are read at most: some 50 for each interface.
  private static let maximumRecord = 1 << 20

  /// A socket that has come from the run before, and that nobody has taken yet.
  private struct Inherited {
    let number: Int32
    let socket: IngressSocket
    let name: String
  }

  private var inherited: [Inherited] = []
  private var inheritedRules: Int32?
  private var hasTakenRules = false
  /// What the run before has recorded of forwarding, and where.
  private var forwarding: (number: Int32, record: String)?
  /// All names under which something has come.
  private var inheritedNames: Set<String> = []
  /// Those of them under which something has come that is of no use.
  private var droppedNames: Set<String> = []
  /// What is to be there for the next run, and whether it came from the one before, by name.
  private var kept: [String: [(number: Int32, isInherited: Bool)]] = [:]
  /// Of this process; nil if the kernel does not tell.
  private let namespace: UInt64?
  private let log: Logger

  /// Takes what this process was started with: comes before anything is opened.
  init(log: Logger) {
    self.log = log
    namespace = (try? StreamSocket.open(isIPv4: true))?.networkNamespace
    for (number, name) in PassedDescriptors.take() {
      guard let descriptor = Descriptor.inherited(number) else { continue }
      inheritedNames.insert(name)
      take(descriptor, named: name)
    }
  }

  deinit {
    for one in inherited { _ = Descriptor(owning: one.number) }
    if let inheritedRules { _ = Descriptor(owning: inheritedRules) }
    if let forwarding { _ = Descriptor(owning: forwarding.number) }
  }

  /// Keeps it if it is what its name says, and of this network namespace; closes it otherwise.
  private func take(_ descriptor: consuming Descriptor, named name: String) {
    let isOurs = namespace == nil || descriptor.networkNamespace == namespace
    if isOurs, name == Self.rulesName, descriptor.isNetfilterSocket, inheritedRules == nil {
      inheritedRules = descriptor.take()
    } else if name == Self.forwardingName, forwarding == nil,
      let text = descriptor.text(atMost: Self.maximumRecord), text.hasPrefix(recordHead)
    {
      forwarding = (descriptor.take(), String(text.dropFirst(recordHead.count)))
    } else if isOurs, let socket = IngressSocket(descriptor), name == socket.name,
      (try? descriptor.makeNonblocking()) != nil
    {
      inherited.append(Inherited(number: descriptor.take(), socket: socket, name: name))
    } else {
      droppedNames.insert(name)
      log.warning(
        """
        descriptor \(descriptor.rawValue), which was handed over as "\(name)", is nothing that an \
        earlier run has left, closing it
        """,
        metadata: ["event": "descriptor_refused", "name": .string(name)])
    }
  }

  // MARK: Taking

  /// What the rules in place belong to; nil if none were left.
  func takeRules() -> Descriptor? {
    defer { inheritedRules = nil }
    hasTakenRules = inheritedRules != nil
    return inheritedRules.map { Descriptor(owning: $0) }
  }

  /// What forwarding was before runs have changed it, as `Forwarding` records it; empty if none has.
  func takeForwarding() -> String { forwarding?.record ?? "" }

  /// Whether the run before has left a socket on this port: then it is not free, and ours all the same.
  func holds(_ socket: IngressSocket) -> Bool {
    inherited.contains { $0.socket.name == socket.name }
  }

  /// Gives a data plane its sockets of the captured side: those that are left, and new ones for the rest.
  /// Connections may wait in further listeners that were left, whether of more workers than there are now
  /// or on another port: it gets these as well, to serve them. Where connections are not captured that way
  /// any more they end instead: what their clients send would no longer come here.
  func handSockets(to plane: inout DataPlaneConfiguration) throws(CommandFailure) {
    let handed = HandedSockets()
    for socket in plane.ingressSockets {
      let left = try take(socket, mark: plane.mark)
      let isInherited = left != nil
      let descriptor: Descriptor
      if let left = consume left {
        descriptor = left
      } else {
        descriptor = try open(socket, plane)
      }
      if socket.isKept {
        kept[socket.name, default: []].append((descriptor.rawValue, isInherited))
      }
      handed.add(descriptor, as: socket)
    }
    let captures = plane.ingressSockets.map(\.isTransparentStream)
    let rest = inherited
    for one in rest {
      guard case .stream(let address, let isTransparent) = one.socket,
        captures.contains(isTransparent), let descriptor = try take(one.socket, mark: plane.mark)
      else { continue }
      if kept[one.name] != nil { kept[one.name]?.append((one.number, true)) }
      handed.add(descriptor, as: one.socket)
      plane.furtherListeners.append(
        ListenerConfiguration(isTransparent ? .tproxy : .redirect, on: address))
    }
    plane.handedSockets = handed
    closeRest()
  }

  private func take(_ socket: IngressSocket, mark: UInt32?) throws(CommandFailure) -> Descriptor? {
    guard let index = inherited.firstIndex(where: { $0.socket == socket }) else { return nil }
    let descriptor = Descriptor(owning: inherited.remove(at: index).number)
    // Other numbers may be free than were for the run before.
    if let mark { try startedUp { () throws(Errno) in try descriptor.setMark(mark) } }
    return descriptor
  }

  private func open(
    _ socket: IngressSocket, _ plane: DataPlaneConfiguration
  ) throws(CommandFailure) -> Descriptor {
    do {
      return try socket.open(mark: plane.mark, replyMark: plane.datagrams?.replyMark)
    } catch {
      guard let address = socket.address else {
        throw CommandFailure("cannot start: \(error)", .unavailable)
      }
      throw CommandFailure(listen: address, error)
    }
  }

  /// Sockets for datagrams that nobody reads any more would swallow their share of what arrives.
  private func closeRest() {
    for one in inherited {
      droppedNames.insert(one.name)
      _ = Descriptor(owning: one.number)
    }
    inherited = []
  }

  // MARK: Leaving

  /// Has the manager keep what the next run needs, and nothing else.
  /// - Parameters:
  ///   - rules: what the rules belong to.
  ///   - forwarding: what it was before, as `Forwarding` records it.
  /// - Returns: whether it has room for that.
  func store(_ rules: Int32, _ forwarding: String, with manager: ServiceManager) -> Bool {
    kept[Self.rulesName] = [(rules, hasTakenRules)]
    do {
      try keep(forwarding)
    } catch {
      log.warning(
        "a restart will end what is captured meanwhile: no file in memory can be made (\(error))",
        metadata: ["event": "no_handover"])
      return false
    }
    let count = kept.values.reduce(0) { $0 + $1.count }
    guard count <= manager.storedDescriptors else {
      log.warning(
        """
        the service manager keeps \(manager.storedDescriptors) descriptors at most, and \(count) are to \
        be kept: a restart will end what is captured meanwhile (FileDescriptorStoreMax=)
        """,
        metadata: ["event": "no_handover"])
      return false
    }
    for name in inheritedNames where kept[name] == nil { manager.forget(name) }
    for (name, descriptors) in kept {
      // Those that have come and are of no use have the same name as those that are.
      let isRenewed = droppedNames.contains(name)
      if isRenewed { manager.forget(name) }
      manager.store(
        descriptors.filter { isRenewed || !$0.isInherited }.map(\.number), as: name)
    }
    return true
  }

  /// What a record begins with: a line that says whose settings those are.
  private var recordHead: String { "\(namespace ?? 0)\n" }

  /// Puts a record of forwarding where the next run finds it, unless it is there already.
  private func keep(_ record: String) throws(Errno) {
    guard !record.isEmpty else { return }
    let isThere = forwarding?.record == record
    if !isThere {
      let former = forwarding
      let file = try Descriptor.memoryFile(recordHead + record, named: Self.forwardingName)
      forwarding = (file.take(), record)
      if let former {
        droppedNames.insert(Self.forwardingName)
        _ = Descriptor(owning: former.number)
      }
    }
    kept[Self.forwardingName] = forwarding.map { [($0.number, isThere)] }
  }

  /// Has the manager keep nothing any more.
  func clear(_ manager: ServiceManager) {
    for name in inheritedNames { manager.forget(name) }
  }
}

extension IngressSocket {
  /// What a descriptor is of these; nil if none that is kept.
  fileprivate init?(_ descriptor: borrowing Descriptor) {
    guard let kind = descriptor.kind, let address = descriptor.localAddress else { return nil }
    switch kind.transport {
    case .listener: self = .stream(address, isTransparent: descriptor.isTransparent)
    case .datagrams where descriptor.isTransparent: self = .datagrams(address)
    case .datagrams, .rawDatagrams: return nil
    }
  }

  fileprivate var address: SocketAddress? {
    switch self {
    case .stream(let address, _), .datagrams(let address): address
    case .replies: nil
    }
  }

  /// Nil where it accepts no connections.
  fileprivate var isTransparentStream: Bool? {
    switch self {
    case .stream(_, let isTransparent): isTransparent
    case .datagrams, .replies: nil
    }
  }

  /// Whether anything may wait in it.
  fileprivate var isKept: Bool { address != nil }

  /// For the service manager, which takes no colons (`sd_notify(3)`, FDNAME=).
  fileprivate var name: String {
    switch self {
    case .stream(let address, let isTransparent):
      "\(isTransparent ? "tproxy" : "redirect")-\(address.familyName)-\(address.port)"
    case .datagrams(let address): "datagrams-\(address.familyName)-\(address.port)"
    case .replies(let isIPv4): "replies-\(isIPv4 ? "ipv4" : "ipv6")"
    }
  }
}

extension SocketAddress {
  fileprivate var familyName: String { address.isIPv4 ? "ipv4" : "ipv6" }
}
