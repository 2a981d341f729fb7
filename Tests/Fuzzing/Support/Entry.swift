/// What libFuzzer calls with one input after the other. Each target defines `fuzz(_:)`, which traps
/// where something does not hold.
@c(LLVMFuzzerTestOneInput)
func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  // SAFETY: libFuzzer keeps `count` bytes there until this returns, in memory of exactly that size, so
  // that the address sanitizer sees a read beyond them.
  fuzz(UnsafeBufferPointer(start: bytes, count: count).span)
  return 0
}
