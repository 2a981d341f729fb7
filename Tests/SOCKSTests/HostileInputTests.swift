import Addressing
import SOCKS
import TestSupport
import Testing

/// Random and damaged input. `outcome(of:pieces:)` checks what must always hold: no more is consumed
/// than there is, nothing is left when more is asked for, an end is final, the output fits.
struct HostileInputTests {
  private let modes = [ClientHandshake.Mode.stepwise, .pipelined, .admitted]

  @Test(arguments: 0..<8)
  func randomBytesToEitherMachine(seed: UInt64) {
    var generator = SplitMix(seed: seed)
    for _ in 0..<15_000 {
      let bytes = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
        telling(using: &generator)
      }
      let pieces = randomPieces(of: bytes, using: &generator)
      let login = logins[Int.random(in: logins.indices, using: &generator)]
      let mode = modes.randomElement(using: &generator) ?? .stepwise
      var client = Client(to: destinations[0], login, mode)
      if case .failed(let failure) = outcome(of: client, pieces: pieces).action {
        #expect(failure != .refused(.succeeded))
      }
      if let first = pieces.first, client.receive(first).action == .receive {
        _ = client.receiveEnd()
      }
      let server = Server(
        login, relaysDatagrams: Bool.random(using: &generator),
        listens: Bool.random(using: &generator))
      #expect(outcome(of: server, pieces: pieces) == outcome(of: server, pieces: [bytes]))
    }
  }

  /// What a server may say to any of our clients, in messages.
  private func serverTranscript(using generator: inout SplitMix) -> [[UInt8]] {
    let address =
      [
        hex("01 C0000201 0438"), hex("04 20010DB8000000000000000000000001 FFFF"),
        hex("03 0B 6578616D706C652E636F6D 1F90"), hex("03 00 0000"),
      ].randomElement(using: &generator) ?? []
    let code: UInt8 = Int.random(in: 0..<4, using: &generator) == 0 ? telling(using: &generator) : 0
    let reply = hex("05") + [code, 0] + address + hex("AA BB")
    switch Int.random(in: 0..<4, using: &generator) {
    case 0: return [hex("05 00"), reply]
    case 2: return [reply]
    case 1: return [hex("05 02"), hex("01 00"), reply]
    default: return [hex("05") + [telling(using: &generator)], hex("01 01"), reply]
    }
  }

  @Test(arguments: 0..<4)
  func clientAgreesWithItsModel(seed: UInt64) {
    var generator = SplitMix(seed: 100 + seed)
    let named = [("user", "secret"), ("u", "p")]
    var established = 0
    for _ in 0..<10_000 {
      let destination = destinations[Int.random(in: destinations.indices, using: &generator)]
      let mode = modes.randomElement(using: &generator) ?? .stepwise
      let login =
        Int.random(in: 0..<3, using: &generator) == 0 ? nil : named.randomElement(using: &generator)
      var messages = serverTranscript(using: &generator)
      let damaged = Int.random(in: messages.indices, using: &generator)
      messages[damaged] = mutated(messages[damaged], using: &generator)
      // Half of the transcripts arrive message by message, as a well-behaved server's do.
      let pieces =
        Bool.random(using: &generator)
        ? messages : randomPieces(of: Array(messages.joined()), using: &generator)
      let model = ClientModel(
        destination: destination,
        login: login.map { (username: Array($0.0.utf8), password: Array($0.1.utf8)) }, mode: mode)
      let client = Client(to: destination, login.map { credentials($0.0, $0.1) }, mode)
      let actual = outcome(of: client, pieces: pieces)
      #expect(actual == model.outcome(pieces: pieces))
      if actual.action == .established { established += 1 }
    }
    // The comparison would be worth little if nearly all transcripts failed.
    #expect(established > 500)
  }

  @Test(arguments: 0..<4)
  func serverDoesNotCareHowBytesArrive(seed: UInt64) {
    var generator = SplitMix(seed: 200 + seed)
    var (connected, associated, listening) = (0, 0, 0)
    for _ in 0..<5_000 {
      let login = logins[Int.random(in: logins.indices, using: &generator)]
      let destination = destinations[Int.random(in: destinations.indices, using: &generator)]
      let commands = [Command.connect, .udpAssociate, .bind]
      let command = commands[Int.random(in: commands.indices, using: &generator)]
      let transcript = Client(command, to: destination, login, .pipelined).sent + hex("00 05 01")
      let bytes = mutated(transcript, using: &generator)
      let server = Server(login, relaysDatagrams: true, listens: true)
      let whole = outcome(of: server, pieces: [bytes])
      let cut = randomPieces(of: bytes, using: &generator)
      #expect(outcome(of: server, pieces: cut) == whole)
      switch whole.action {
      case .connect: connected += 1
      case .associate: associated += 1
      case .bind: listening += 1
      case .receive, .reject: break
      }
    }
    #expect(connected > 250)
    #expect(associated > 250)
    #expect(listening > 250)
  }
}
