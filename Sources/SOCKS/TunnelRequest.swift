internal import Addressing

/// The request for a tunnel (RFC 9110, section 9.3.6), with credentials by the scheme Basic (RFC 7617):
///
///     CONNECT host:port HTTP/1.1
///     Host: host:port
///     Proxy-Authorization: Basic base64(user:password)
///
/// Lines end in CR LF; an empty one follows.
enum TunnelRequest {
  private static let connect: StaticString = "CONNECT "
  private static let host: StaticString = " HTTP/1.1\r\nHost: "
  private static let authorization: StaticString = "\r\nProxy-Authorization: Basic "
  private static let end: StaticString = "\r\n\r\n"

  /// `host:port`, the name as long as one can be; an address in brackets is shorter.
  private static let maximumTargetBytes = 255 + 1 + 5
  /// User, colon and password in base64 (RFC 4648, section 4).
  private static let maximumLoginBytes = (Authentication.maximumFieldBytes * 2 + 1 + 2) / 3 * 4

  static let maximumBytes =
    connect.utf8CodeUnitCount + host.utf8CodeUnitCount + 2 * maximumTargetBytes
    + authorization.utf8CodeUnitCount + maximumLoginBytes + end.utf8CodeUnitCount

  /// Whether a request can carry it: every address, and names of the characters of a URL's host that
  /// stand for themselves (RFC 3986, section 3.2.2).
  static func canName(_ destination: Endpoint) -> Bool {
    switch destination {
    case .address: true
    case .name(let name, _):
      name.text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
          UInt8(ascii: "_"), UInt8(ascii: "~"):
          true
        default: false
        }
      }
    }
  }

  static func encode(
    to destination: Endpoint, _ credentials: Credentials?, into output: inout OutputSpan<UInt8>
  ) {
    let target = destination.description
    append(connect, to: &output)
    for byte in target.utf8 { output.append(byte) }
    append(host, to: &output)
    for byte in target.utf8 { output.append(byte) }
    if let credentials {
      append(authorization, to: &output)
      appendLogin(credentials, to: &output)
    }
    append(end, to: &output)
  }

  private static func append(_ text: StaticString, to output: inout OutputSpan<UInt8>) {
    text.withUTF8Buffer { for byte in $0 { output.append(byte) } }
  }

  private static func appendLogin(_ login: Credentials, to output: inout OutputSpan<UInt8>) {
    let bytes = login.username + [UInt8(ascii: ":")] + login.password
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      var bits: UInt32 = 0
      for byte in group { bits = bits << 8 | UInt32(byte) }
      bits <<= UInt32(3 - group.count) * 8
      for index in 0..<4 {
        let digit = UInt8(truncatingIfNeeded: bits >> UInt32(18 - 6 * index)) & 63
        output.append(index <= group.count ? base64(digit) : UInt8(ascii: "="))
      }
    }
  }

  private static func base64(_ digit: UInt8) -> UInt8 {
    switch digit {
    case ..<26: UInt8(ascii: "A") + digit
    case ..<52: UInt8(ascii: "a") + (digit - 26)
    case ..<62: UInt8(ascii: "0") + (digit - 52)
    case 62: UInt8(ascii: "+")
    default: UInt8(ascii: "/")
    }
  }
}
