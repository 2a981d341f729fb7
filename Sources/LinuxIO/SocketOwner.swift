package import Addressing
internal import CLinux

/// The process behind a socket of this network namespace, by `/proc/net/tcp` and the like, and by
/// `/proc/PID/fd` (`proc(5)`). Slow: it walks over all processes.
package struct SocketOwner: Hashable, Sendable {
  package let processID: Int32
  /// Target of `/proc/PID/exe`.
  package let executable: String

  /// Last component of the executable's path.
  package var name: String { Self.lastComponent(executable) }

  /// The name of the program that a process runs; nil if there is none, or it may not be looked at.
  package static func program(ofProcess processID: UInt32) -> String? {
    readLink("/proc/\(processID)/exe").map(lastComponent)
  }

  private static func lastComponent(_ path: String) -> String {
    path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
  }

  package var isOurselves: Bool { processID == getpid() }

  /// Who has the socket between `local` and `remote`; nil if it is not of this host, or its process
  /// may not be looked at.
  package static func connected(from local: SocketAddress, to remote: SocketAddress) -> SocketOwner?
  {
    // A host of a LAN has none here, and there may be thousands of sockets to look at.
    guard isOfThisHost(local.address) else { return nil }
    return find { $0 == local && $1 == remote }
  }

  /// Whether a socket can be bound to it.
  package static func isOfThisHost(_ address: IPAddress) -> Bool {
    do {
      try DatagramSocket.checkFree(SocketAddress(address, 0))
      return true
    } catch {
      return error != .addressNotAvailable
    }
  }

  /// Who listens on `address`, or on all addresses with its port.
  package static func listening(on address: SocketAddress) -> SocketOwner? {
    find { local, remote in
      remote.port == 0 && local.port == address.port
        && (local.address == address.address || local.address.isUnspecified)
    }
  }

  /// Who listens on the Unix socket at `path`, whatever symbolic links lead there.
  package static func listening(at path: SocketPath) -> SocketOwner? {
    guard let place = Mounts.realPath("\(path)") else { return nil }
    for fields in localSockets() where fields[3] == listeningFlags && fields[7].hasPrefix("/") {
      guard Mounts.realPath(String(fields[7])) == place,
        let owner = holder(of: "socket:[\(fields[6])]")
      else { continue }
      return owner
    }
    return nil
  }

  /// Who has `address`, or all addresses with its port, for datagrams; nil if it is not of this host.
  package static func ofDatagrams(at address: SocketAddress) -> SocketOwner? {
    // Another host's port may well be that of a socket here that is bound to all addresses.
    guard isOfThisHost(address.address) else { return nil }
    return find(in: ["udp", "udp6"]) { local, _ in
      local.port == address.port
        && (local.address == address.address || local.address.isUnspecified)
    }
  }

  /// The ports that programs listen on for others than this host itself, each once, ascending.
  package static func listeningPorts() -> [UInt16] {
    let listening = "0A"  // TCP_LISTEN (include/net/tcp_states.h)
    let ports = sockets(in: streamTables).compactMap { fields in
      fields[3] == listening ? parse(fields[1]) : nil
    }.filter { !$0.address.isLoopback }.map(\.port)
    return Set(ports).sorted()
  }

  private static let streamTables = ["tcp", "tcp6"]

  private static func find(
    in tables: [String] = streamTables, _ matches: (SocketAddress, SocketAddress) -> Bool
  ) -> SocketOwner? {
    for fields in sockets(in: tables) {
      guard let local = parse(fields[1]), let remote = parse(fields[2]),
        matches(local, remote), let owner = holder(of: "socket:[\(fields[9])]")
      else { continue }
      return owner
    }
    return nil
  }

  /// The sockets of this network namespace, each as its fields:
  /// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …`
  private static func sockets(in tables: [String]) -> [[Substring]] {
    tables.flatMap { table in
      (readFile("/proc/self/net/\(table)") ?? "").split(separator: "\n").dropFirst()
        .map { $0.split(separator: " ", maxSplits: 10) }.filter { $0.count > 9 }
    }
  }

  /// The Unix sockets of this network namespace that have a path or name, each as its fields:
  /// `Num RefCount Protocol Flags Type St Inode Path`
  private static func localSockets() -> [[Substring]] {
    (readFile("/proc/self/net/unix") ?? "").split(separator: "\n").dropFirst()
      .map { $0.split(separator: " ", maxSplits: 7) }.filter { $0.count > 7 }
  }

  private static let listeningFlags = "00010000"  // __SO_ACCEPTCON (include/linux/net.h)

  /// An address as the kernel prints it: 32-bit words in host order, in hexadecimal, then the port.
  private static func parse(_ text: Substring) -> SocketAddress? {
    let parts = text.split(separator: ":")
    guard parts.count == 2, let port = UInt16(parts[1], radix: 16) else { return nil }
    let digits = Array(parts[0])
    let words = stride(from: 0, to: digits.count, by: 8).compactMap { start in
      UInt32(String(digits[start..<min(start + 8, digits.count)]), radix: 16)
        .map { UInt32(bigEndian: $0) }
    }
    switch words.count {
    case 1:
      return SocketAddress(.v4(IPv4Address(bits: words[0])), port)
    case 4:
      let v6 = IPv6Address(
        high: UInt64(words[0]) << 32 | UInt64(words[1]),
        low: UInt64(words[2]) << 32 | UInt64(words[3]))
      return SocketAddress(.v6(v6), port).unmapped
    default:
      return nil
    }
  }

  private static func holder(of socket: String) -> SocketOwner? {
    for process in directoryEntries("/proc") {
      guard let processID = Int32(process) else { continue }
      for descriptor in directoryEntries("/proc/\(process)/fd")
      where readLink("/proc/\(process)/fd/\(descriptor)") == socket {
        return SocketOwner(
          processID: processID, executable: readLink("/proc/\(process)/exe") ?? "unknown")
      }
    }
    return nil
  }
}
