internal import DNS

/// The whole input is an answer.
func fuzz(_ input: Span<UInt8>) {
  guard let answer = NamedAddresses(input) else { return }
  precondition(
    (1...NamedAddresses.maximumRecords).contains(answer.addresses.count),
    "more addresses than records, or none")
  precondition((1...4 * 255).contains(answer.name.utf8.count), "an endless name, or none")
  precondition(
    answer.name.utf8.allSatisfy { byte in
      switch byte {
      case 0x30...0x39, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x5C: true
      default: false
      }
    }, "a name that cannot be shown anywhere")
}
