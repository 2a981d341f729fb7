package import Addressing

/// Which of many are meant: all where `only` is empty, and never those in `except`.
package struct Choice<Element: Hashable & Sendable>: Hashable, Sendable {
  package var only: [Element] = []
  package var except: [Element] = []

  init(
    _ options: Options.Choice, _ flag: String,
    _ parse: (_ text: String, _ flag: String) throws(ConfigurationError) -> Element
  ) throws(ConfigurationError) {
    for text in options.only { only.append(try parse(text, "--\(flag)")) }
    for text in options.except { except.append(try parse(text, "--except-\(flag)")) }
  }
}

/// Users or groups: by number, or by a name that the host knows.
package enum Identity: Hashable, Sendable {
  case numbers(ClosedRange<UInt32>)
  case name(String)
}

/// Whose traffic of this host is captured.
package struct MachineSelection: Hashable, Sendable {
  package let users: Choice<Identity>
  package let groups: Choice<Identity>
  /// Paths below the root of the control groups, without a slash at either end; a name without a slash
  /// may also be that of a systemd unit.
  package let controlGroups: Choice<String>
  /// Names, or beginnings of names and `*`.
  package let outputInterfaces: Choice<String>

  /// Nil if nothing of this host is to be captured. Every choice implies `--machine`.
  init?(_ options: Options) throws(ConfigurationError) {
    let isChosen =
      [options.users, options.groups, options.controlGroups, options.outputInterfaces]
      .contains { !$0.isEmpty }
    guard options.machine || isChosen else { return nil }
    users = try Choice(options.users, "uid", parseIdentity)
    groups = try Choice(options.groups, "gid", parseIdentity)
    controlGroups = try Choice(options.controlGroups, "cgroup", parseControlGroup)
    outputInterfaces = try Choice(options.outputInterfaces, "out-interface", parseInterface)
  }
}

/// Whose traffic that arrives from others is captured.
package struct GatewaySelection: Hashable, Sendable {
  /// Names, or beginnings of names and `*`.
  package private(set) var interfaces: [String] = []
  package private(set) var interfaceGroups: [UInt32] = []
  package let sources: Choice<CIDR>
  package let hardwareAddresses: Choice<HardwareAddress>

  /// What stands before the number of an interface group.
  private static let groupPrefix = "group:"

  /// Nil if nothing that arrives is to be captured.
  init?(_ options: Options) throws(ConfigurationError) {
    sources = try Choice(options.sources, "from", parseBlock)
    hardwareAddresses = try Choice(options.hardwareAddresses, "mac", parseHardwareAddress)
    for text in options.gateways {
      if text.hasPrefix(Self.groupPrefix) {
        guard let number = UInt32(text.dropFirst(Self.groupPrefix.count)) else {
          throw ConfigurationError(
            "--gateway \(text): expected the number of an interface group, such as group:7")
        }
        interfaceGroups.append(number)
      } else {
        interfaces.append(try parseInterface(text, "--gateway"))
      }
    }
    if options.gateways.isEmpty {
      guard options.sources.isEmpty, options.hardwareAddresses.isEmpty else {
        throw ConfigurationError(
          "--from and --mac choose among what arrives from a LAN: give its --gateway INTERFACE, too"
        )
      }
      return nil
    }
  }
}

/// Which destinations are captured.
package struct DestinationSelection: Hashable, Sendable {
  package private(set) var bypass: [CIDR] = []
  /// Files with more, as `BlockList` reads them.
  package let bypassFiles: [String]
  package private(set) var bypassPorts: [ClosedRange<UInt16>] = []
  package private(set) var only: [CIDR] = []
  package let onlyFiles: [String]
  package private(set) var onlyPorts: [ClosedRange<UInt16>] = []
  package let proxyPrivate: Bool

  /// Whether only listed addresses are captured.
  package var isList: Bool { !only.isEmpty || !onlyFiles.isEmpty }

  init(_ options: Options) throws(ConfigurationError) {
    for text in options.bypass { bypass.append(try parseBlock(text, "--bypass")) }
    for text in options.bypassPorts { bypassPorts.append(try parsePorts(text, "--bypass-port")) }
    for text in options.proxyOnly { only.append(try parseBlock(text, "--proxy-only")) }
    for text in options.proxyOnlyPorts {
      onlyPorts.append(try parsePorts(text, "--proxy-only-port"))
    }
    bypassFiles = options.bypassFiles
    onlyFiles = options.proxyOnlyFiles
    proxyPrivate = options.proxyPrivate
  }
}

// MARK: Parsing

func parseBlock(_ text: String, _ flag: String) throws(ConfigurationError) -> CIDR {
  guard let block = CIDR(text) else {
    throw ConfigurationError(
      "\(flag) \(text): expected an address or a block without host bits, such as "
        + "203.0.113.0/24 or 2001:db8::/32")
  }
  return block
}

func parseHardwareAddress(
  _ text: String, _ flag: String
) throws(ConfigurationError) -> HardwareAddress {
  guard let address = HardwareAddress(text) else {
    throw ConfigurationError(
      "\(flag) \(text): expected a hardware address, such as 02:00:5e:10:00:01")
  }
  return address
}

func parsePorts(
  _ text: String, _ flag: String
) throws(ConfigurationError) -> ClosedRange<UInt16> {
  guard let range = parseRange(text, as: UInt16.self), range.lowerBound > 0 else {
    throw ConfigurationError(
      "\(flag) \(text): expected a port or a range, such as 443 or 8000-8999")
  }
  return range
}

/// A name has a character that is no digit.
func parseIdentity(_ text: String, _ flag: String) throws(ConfigurationError) -> Identity {
  if let range = parseRange(text, as: UInt32.self) { return .numbers(range) }
  let isName = !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x3A }
  guard isName, text.contains(where: { !$0.isNumber && $0 != "-" }) else {
    throw ConfigurationError(
      "\(flag) \(text): expected a name, a number or a range, such as 1000-1999")
  }
  return .name(text)
}

func parseControlGroup(_ text: String, _ flag: String) throws(ConfigurationError) -> String {
  var path = Substring(text)
  if path.hasPrefix("/sys/fs/cgroup/") { path = path.dropFirst("/sys/fs/cgroup/".count) }
  let components = path.split(separator: "/")
  guard !components.isEmpty, !components.contains(".."), !text.contains("\""), !text.contains("\n")
  else {
    throw ConfigurationError(
      "\(flag) \(text): expected a control group below the root, such as user.slice, or a systemd "
        + "unit")
  }
  return components.joined(separator: "/")
}

/// An interface name as the kernel takes it: 1 to 15 bytes, no space, slash or colon, not "." or
/// ".." (`dev_valid_name` in net/core/dev.c), and no quotation mark, which nft text could not carry;
/// or the beginning of one with a `*` behind it.
func parseInterface(_ text: String, _ flag: String) throws(ConfigurationError) -> String {
  let name = text.hasSuffix("*") ? text.dropLast() : Substring(text)
  let isValid =
    (1...15).contains(name.utf8.count) && name != "." && name != ".."
    && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && !"/:\"*".utf8.contains($0) }
  guard isValid else {
    throw ConfigurationError(
      "\(flag) \(text): not an interface name (see ip link), nor the beginning of one such as docker*"
    )
  }
  return text
}

/// `number` or `low-high`, of decimal digits alone.
private func parseRange<Number: FixedWidthInteger>(
  _ text: String, as type: Number.Type
) -> ClosedRange<Number>? {
  let parts = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
  let numbers = parts.compactMap { part in
    part.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Number(part) : nil
  }
  guard numbers.count == parts.count, let low = numbers.first, let high = numbers.last, low <= high
  else { return nil }
  return low...high
}
