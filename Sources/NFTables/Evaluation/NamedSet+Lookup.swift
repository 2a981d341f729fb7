internal import Addressing

extension NamedSet {
  /// What is looked up.
  enum Key {
    case address(IPAddress)
    case interface(String)
    case interfaceGroup(UInt32)
    case identity(UInt32)
    case controlGroup(UInt64)
    case hardwareAddress(HardwareAddress)
    case port(UInt16)
    case icmpType(UInt8)
    case addressType(AddressType)
  }

  /// The element that has the key, as nft writes it; nil if there is none.
  func element(with key: Key) -> String? {
    switch elements {
    case .hosts(_, let addresses):
      guard case .address(let address) = key, addresses.contains(address) else { return nil }
      return address.description
    case .ranges(_, let ranges):
      guard case .address(let address) = key else { return nil }
      return ranges.first { $0.contains(address) }?.description
    case .interfaces(let names):
      guard case .interface(let name) = key, names.contains(name) else { return nil }
      return name
    case .interfacePatterns(let patterns):
      guard case .interface(let name) = key else { return nil }
      return patterns.first { pattern in
        pattern.hasSuffix("*") ? name.hasPrefix(pattern.dropLast()) : name == pattern
      }
    case .interfaceGroups(let groups):
      guard case .interfaceGroup(let group) = key, groups.contains(group) else { return nil }
      return group.description
    case .identities(_, let ranges):
      guard case .identity(let number) = key else { return nil }
      return ranges.first { $0.contains(number) }.map(text)
    case .controlGroups(let groups):
      guard case .controlGroup(let identifier) = key else { return nil }
      return groups.first { $0.identifier == identifier }?.path
    case .hardwareAddresses(let addresses):
      guard case .hardwareAddress(let address) = key, addresses.contains(address) else {
        return nil
      }
      return address.description
    case .ports(let ranges):
      guard case .port(let port) = key else { return nil }
      return ranges.first { $0.contains(port) }.map(text)
    case .icmpTypes(_, let types):
      guard case .icmpType(let number) = key else { return nil }
      return types.first { $0.number == number }?.name
    case .addressTypes(let types):
      guard case .addressType(let type) = key, types.contains(type) else { return nil }
      return "\(type)"
    }
  }
}

extension AddressRange {
  /// An address of the other family never lies inside.
  func contains(_ address: IPAddress) -> Bool {
    address.family == first.family && !address.precedes(first) && !last.precedes(address)
  }
}
