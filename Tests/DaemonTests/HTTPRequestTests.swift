import Testing

@testable import Daemon

/// What the server of metrics makes of what clients say.
struct HTTPRequestTests {
  private func decode(_ text: String) -> HTTPRequest.Outcome {
    HTTPRequest.decode(from: Array(text.utf8))
  }

  @Test(arguments: [
    ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/metrics"),
    ("GET /metrics HTTP/1.0\r\n\r\n", "GET", "/metrics"),
    ("\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n", "GET", "/metrics"),
    ("GET /metrics HTTP/1.1\nHost: a\n\n", "GET", "/metrics"),
    ("HEAD /metrics?name[]=x HTTP/1.1\r\n\r\n", "HEAD", "/metrics"),
    ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "POST", "/"),
    ("GET http://a:1/metrics?x HTTP/1.1\r\n\r\n", "GET", "/metrics"),
    ("GET HTTP://a HTTP/1.1\r\n\r\n", "GET", "/"),
    ("OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS", "*"),
  ])
  func taken(_ text: String, method: String, path: String) {
    let request = HTTPRequest.Outcome.request(HTTPRequest(method: method, path: path))
    #expect(decode(text) == request)
    // However it comes, there is nothing to be said before its end.
    let bytes = Array(text.utf8)
    let end = bytes.indices.first { HTTPRequest.decode(from: Array(bytes[...$0])) == request }
    for count in 0..<(end ?? 0) {
      #expect(HTTPRequest.decode(from: Array(bytes[..<count])) == .needsMore)
    }
  }

  private static let long = String(repeating: "x", count: HTTPRequest.maximumBytes)

  @Test(arguments: [
    ("GET /metrics\r\n\r\n", HTTPResponse.Status.badRequest), ("\r\n \r\n", .badRequest),
    ("GET  /metrics HTTP/1.1\r\n\r\n", .badRequest), ("GET /metrics HTTP/1.1 \r\n", .badRequest),
    ("GET /metrics FTP/1.1\r\n", .badRequest), ("GET /m\u{e9} HTTP/1.1\r\n", .badRequest),
    ("GET /metrics HTTP/2.0\r\n", .versionNotSupported),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .versionNotSupported),
    // What speaks TLS or SOCKS is told at once.
    ("\u{16}\u{3}\u{1}", .badRequest), ("\u{5}\u{1}", .badRequest),
    ("GET /" + long, .targetTooLong), ("GET / HTTP/1.1\r\nX: " + long, .headTooLong),
    ("GET / HTTP/1.1\r\n" + String(repeating: "a: b\r\n", count: 2000), .headTooLong),
  ])
  func refused(_ text: String, status: HTTPResponse.Status) {
    #expect(decode(text) == .refused(status))
  }

  /// Any bytes get an outcome, and a head of any number of bytes ends.
  @Test(arguments: 0..<64 as Range<UInt64>)
  func anyBytesHaveAnOutcome(seed: UInt64) {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    var bytes = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
    for _ in 0..<200 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let place = Int(state >> 33) % bytes.count
      bytes[place] = UInt8(truncatingIfNeeded: state >> 24)
      _ = HTTPRequest.decode(from: bytes)
    }
    bytes += repeatElement(bytes[0], count: HTTPRequest.maximumBytes)
    #expect(HTTPRequest.decode(from: bytes) != .needsMore)
  }

  private func response(_ method: String, _ path: String) -> String {
    let response = HTTPResponse(to: HTTPRequest(method: method, path: path)) { "m 1\n" }
    return String(decoding: response.bytes, as: UTF8.self)
  }

  @Test func answers() {
    let head = """
      HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
      Content-Length: 4\r\nConnection: close\r\n\r\n
      """
    #expect(response("GET", "/metrics") == head + "m 1\n")
    #expect(response("HEAD", "/metrics") == head)
    #expect(response("GET", "/metrics/").hasPrefix("HTTP/1.1 404 Not Found\r\n"))
    #expect(response("GET", "/").hasSuffix("\r\n\r\nNot Found; metrics are at /metrics\n"))
    let refused = response("POST", "/metrics")
    #expect(refused.hasPrefix("HTTP/1.1 405 Method Not Allowed\r\n"))
    #expect(refused.contains("\r\nAllow: GET, HEAD\r\n"))
  }
}
