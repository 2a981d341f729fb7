/// What a client wants whose connection has one request and one answer (RFC 9112). Of its head only the
/// first line is looked at; a body is not read.
struct HTTPRequest: Hashable {
  /// What is asked for with which method.
  let method: String
  /// Without a query.
  let path: String

  /// Of a head that is taken.
  static let maximumBytes = 8 << 10

  enum Outcome: Hashable {
    case needsMore
    case request(HTTPRequest)
    case refused(HTTPResponse.Status)
  }

  /// Reads the head at the beginning of what has arrived so far. Lines end with CRLF or LF alone (RFC 9112,
  /// section 2.2).
  static func decode(from bytes: [UInt8]) -> Outcome {
    let head = bytes.prefix(maximumBytes)
    // Empty lines before the first one are ignored, by the same section.
    let start = head.firstIndex { $0 != 13 && $0 != 10 } ?? head.endIndex
    let lines = head[start...].split(separator: 10, omittingEmptySubsequences: false)
    // What is behind the last end of a line is none yet.
    guard let first = lines.first, lines.count > 1 else {
      guard bytes.count < maximumBytes else { return .refused(.targetTooLong) }
      // What begins otherwise need not go on, or end.
      return trimmed(head[start...]).prefix(20).allSatisfy(isPrintable)
        ? .needsMore : .refused(.badRequest)
    }
    let request = decode(line: first)
    if case .refused = request { return request }
    guard lines.dropFirst().dropLast().contains(where: { trimmed($0).isEmpty }) else {
      return bytes.count < maximumBytes ? .needsMore : .refused(.headTooLong)
    }
    return request
  }

  private static func decode(line: ArraySlice<UInt8>) -> Outcome {
    let parts = trimmed(line).split(separator: 32, omittingEmptySubsequences: false)
    guard parts.count == 3, parts.allSatisfy({ !$0.isEmpty && $0.allSatisfy(isPrintable) }) else {
      return .refused(.badRequest)
    }
    let texts = parts.map { String(decoding: $0, as: UTF8.self) }
    guard texts[2] == "HTTP/1.1" || texts[2] == "HTTP/1.0" else {
      return .refused(texts[2].hasPrefix("HTTP/") ? .versionNotSupported : .badRequest)
    }
    return .request(HTTPRequest(method: texts[0], path: path(of: texts[1])))
  }

  /// Of a target, also one with a host before it (RFC 9112, section 3.2.2).
  private static func path(of target: String) -> String {
    var rest = target[...]
    let scheme = "http://"
    if target.lowercased().hasPrefix(scheme) {
      rest = rest.dropFirst(scheme.count)
      rest = rest.firstIndex(of: "/").map { rest[$0...] } ?? "/"
    }
    return String(rest.prefix { $0 != "?" && $0 != "#" })
  }

  private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    line.last == 13 ? line.dropLast() : line
  }

  /// ASCII, a space included.
  private static func isPrintable(_ byte: UInt8) -> Bool { (32..<127).contains(byte) }
}

/// The answer to one.
struct HTTPResponse: Hashable {
  enum Status: Int {
    case ok = 200
    case badRequest = 400
    case notFound = 404
    case methodNotAllowed = 405
    case timedOut = 408
    case targetTooLong = 414
    case headTooLong = 431
    case unavailable = 503
    case versionNotSupported = 505

    fileprivate var phrase: String {
      switch self {
      case .ok: "OK"
      case .badRequest: "Bad Request"
      case .notFound: "Not Found"
      case .methodNotAllowed: "Method Not Allowed"
      case .timedOut: "Request Timeout"
      case .targetTooLong: "URI Too Long"
      case .headTooLong: "Request Header Fields Too Large"
      case .unavailable: "Service Unavailable"
      case .versionNotSupported: "HTTP Version Not Supported"
      }
    }
  }

  let status: Status
  let contentType: String
  let body: String
  /// The body is only told of.
  let isHead: Bool

  /// - Parameter metrics: gives the text, if that is what is wanted.
  init(to request: HTTPRequest, metrics: () -> String) {
    switch (request.method, request.path) {
    case ("GET", "/metrics"), ("HEAD", "/metrics"):
      self.init(.ok, MetricFamily.contentType, metrics(), isHead: request.method == "HEAD")
    case (_, "/metrics"): self.init(.methodNotAllowed)
    default: self.init(.notFound)
    }
  }

  /// One that says no more than its status.
  init(_ status: Status) {
    self.init(
      status, "text/plain; charset=utf-8", "\(status.phrase); metrics are at /metrics\n",
      isHead: false)
  }

  private init(_ status: Status, _ contentType: String, _ body: String, isHead: Bool) {
    self.status = status
    self.contentType = contentType
    self.body = body
    self.isHead = isHead
  }

  /// The last of its connection.
  var bytes: [UInt8] {
    let fields = [
      "HTTP/1.1 \(status.rawValue) \(status.phrase)", "Content-Type: \(contentType)",
      "Content-Length: \(body.utf8.count)", "Connection: close",
    ]
    let allowed = status == .methodNotAllowed ? ["Allow: GET, HEAD"] : []
    let head = (fields + allowed).joined(separator: "\r\n") + "\r\n\r\n"
    return Array(head.utf8) + (isHead ? [] : Array(body.utf8))
  }
}
