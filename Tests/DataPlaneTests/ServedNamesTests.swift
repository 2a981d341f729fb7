import Addressing
import Testing

@testable import DataPlane

struct ServedNamesTests {
  private func name(_ index: Int) -> HostName { HostName("host\(index)")! }
  private let address = IPAddress.v4(.loopback)

  private func handle(
    _ names: inout ServedNames, _ payload: [UInt8], to index: Int, port: UInt16 = 1
  ) -> ServedNames.Answer {
    payload.withUnsafeBytes { names.handle($0, to: name(index), port: port) }
  }

  @Test func waitsThenSends() {
    var names = ServedNames()
    #expect(handle(&names, [1], to: 0, port: 5) == .lookUp)
    #expect(handle(&names, [], to: 0, port: 6) == .waits)
    #expect(names.waitingCount == 2)
    #expect(
      names.takeWaiting(for: name(0), address: address) == [
        .init(port: 5, payload: [1]), .init(port: 6, payload: []),
      ])
    #expect(names.waitingCount == 0)
    #expect(handle(&names, [2], to: 0) == .send(address))
    // An answer that comes twice finds nothing to do.
    #expect(names.takeWaiting(for: name(0), address: nil) == [])
    #expect(handle(&names, [2], to: 0) == .send(address))
  }

  @Test func failureIsNotRemembered() {
    var names = ServedNames()
    #expect(handle(&names, [1], to: 0) == .lookUp)
    #expect(names.takeWaiting(for: name(0), address: nil).count == 1)
    #expect(handle(&names, [1], to: 0) == .lookUp)
  }

  @Test func everyBound() {
    var names = ServedNames()
    #expect(handle(&names, [1], to: 0) == .lookUp)
    for _ in 1..<ServedNames.maximumWaiting { #expect(handle(&names, [1], to: 0) == .waits) }
    #expect(handle(&names, [1], to: 0) == .full)
    for index in 1..<ServedNames.maximumLookups {
      #expect(handle(&names, [1], to: index) == .lookUp)
    }
    #expect(handle(&names, [1], to: 99) == .full)

    var large = ServedNames()
    let half = [UInt8](repeating: 1, count: ServedNames.maximumWaitingBytes / 2)
    #expect(handle(&large, half, to: 0) == .lookUp)
    #expect(handle(&large, half, to: 1) == .lookUp)
    #expect(handle(&large, [1], to: 1) == .full)
    #expect(large.takeWaiting(for: name(0), address: address).count == 1)
    #expect(handle(&large, half, to: 1) == .waits)
  }

  @Test func oldestAddressIsForgotten() {
    var names = ServedNames()
    for index in 0...ServedNames.maximumNames {
      #expect(handle(&names, [], to: index) == .lookUp)
      _ = names.takeWaiting(for: name(index), address: address)
    }
    for index in 1...ServedNames.maximumNames {
      #expect(handle(&names, [], to: index) == .send(address))
    }
    #expect(handle(&names, [], to: 0) == .lookUp)
  }
}
