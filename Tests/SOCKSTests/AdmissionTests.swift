import SOCKS
import Testing

struct AdmissionTests {
  private static let login = credentials("user", "pw")
  private static let authentication = hex("01 04 75736572 02 7077")

  /// A way through: with credentials or not, what the server says piece by piece, what is sent in all, and
  /// how it ends.
  struct Case: Sendable {
    let hasLogin: Bool
    let pieces: [[UInt8]]
    let sent: [UInt8]
    let end: Admission.Action

    init(_ hasLogin: Bool, _ pieces: [String], _ sent: [UInt8], _ end: Admission.Action) {
      self.hasLogin = hasLogin
      self.pieces = pieces.map(hex)
      self.sent = sent
      self.end = end
    }
  }

  private static let open = hex("05 01 00")
  private static let both = hex("05 02 00 02")

  static let cases = [
    Case(false, [], open, .receive),
    Case(false, ["05"], open, .receive),
    Case(false, ["05 00"], open, .admitted),
    Case(false, ["05", "00"], open, .admitted),
    Case(true, ["05 00"], both, .admitted),
    Case(true, ["05 02"], both + authentication, .receive),
    Case(true, ["05", "02", "01", "00"], both + authentication, .admitted),
    Case(true, ["05 02", "01 00"], both + authentication, .admitted),
    Case(
      true, ["05 02", "01 01"], both + authentication, .failed(.authenticationRejected(status: 1))),
    Case(false, ["05 FF"], open, .failed(.noAcceptableMethod)),
    Case(
      false, ["05 02"], open,
      .failed(.protocolViolation(.methodNeverOffered(.usernamePassword)))),
    Case(false, ["04"], open, .failed(.protocolViolation(.wrongVersion(4)))),
    // Nothing may come that nobody has asked for.
    Case(false, ["05 00 05"], open, .failed(.protocolViolation(.trailingBytes))),
    Case(false, ["05 00", "05"], open, .failed(.protocolViolation(.trailingBytes))),
    Case(
      true, ["05 02 01 00"], both + authentication, .failed(.protocolViolation(.trailingBytes))),
    // It repeats how it has ended.
    Case(false, ["05 FF", "05 00"], open, .failed(.noAcceptableMethod)),
  ]

  @Test(arguments: cases) func wayThrough(_ way: Case) {
    var admission = Admission(credentials: way.hasLogin ? Self.login : nil)
    var sent: [UInt8] = []
    sent.append(addingCapacity: Admission.maximumOutputBytes) { admission.start(into: &$0) }
    var action = Admission.Action.receive
    for piece in way.pieces {
      sent.append(addingCapacity: Admission.maximumOutputBytes) {
        action = admission.receive(piece.span, into: &$0)
      }
    }
    #expect(sent == way.sent)
    #expect(action == way.end)
  }

  @Test func requestFollows() {
    var client = Client(to: endpoint("192.0.2.1:80"), Self.login, .admitted)
    #expect(client.sent == hex("05 01 00 01 C0000201 0050"))
    #expect(client.receive(hex("05 00 00 01 00000000 0000 41")) == (10, .established))
  }

  @Test func endInPlaceOfTheReply() {
    var client = Client(to: endpoint("192.0.2.1:80"), nil, .admitted)
    #expect(client.receiveEnd() == .closed(.reply))
  }
}
