#include <zlib.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/check.h"
#include "server/loadgen/canvas.h"
#include "server/loadgen/font.h"

namespace trireme::loadgen {
namespace {

constexpr int kScale = 2;  // pixels a unit

void AppendBigEndian(uint32_t value, std::string* out) {
  for (int shift = 24; shift >= 0; shift -= 8) *out += static_cast<char>(value >> shift);
}

// Length, name, data, CRC of name and data (PNG specification, section 5.3).
void AppendChunk(std::string_view name, std::string_view data, std::string* out) {
  AppendBigEndian(static_cast<uint32_t>(data.size()), out);
  const size_t begin = out->size();
  *out += name;
  *out += data;
  const auto* bytes = reinterpret_cast<const Bytef*>(out->data() + begin);
  AppendBigEndian(static_cast<uint32_t>(crc32(0, bytes, static_cast<uInt>(out->size() - begin))),
                  out);
}

double DistanceToSegment(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double length2 = dx * dx + dy * dy;
  const double t =
      length2 == 0 ? 0 : std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length2, 0.0, 1.0);
  return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}

class PngCanvas final : public Canvas {
 public:
  PngCanvas(int width, int height)
      : width_(width * kScale),
        height_(height * kScale),
        pixels_(static_cast<size_t>(width_) * static_cast<size_t>(height_) * 3, '\xff') {}

  void Rect(Point corner, double width, double height, Color color) override {
    ForPixels(corner.x * kScale, corner.y * kScale, (corner.x + width) * kScale - 1,
              (corner.y + height) * kScale - 1, [&](int x, int y) { Blend(x, y, 1, color); });
  }

  void Line(const std::vector<Point>& points, double width, Color color) override {
    const double half = width * kScale / 2;
    for (size_t i = 0; i + 1 < points.size(); ++i) {
      const Point a{points[i].x * kScale, points[i].y * kScale};
      const Point b{points[i + 1].x * kScale, points[i + 1].y * kScale};
      ForPixels(std::min(a.x, b.x) - half - 1, std::min(a.y, b.y) - half - 1,
                std::max(a.x, b.x) + half + 1, std::max(a.y, b.y) + half + 1, [&](int x, int y) {
                  const double distance = DistanceToSegment({x + 0.5, y + 0.5}, a, b);
                  Blend(x, y, std::clamp(half + 0.5 - distance, 0.0, 1.0), color);
                });
    }
  }

  void Text(Point at, std::string_view text, Align align, Color color) override {
    const double width = static_cast<double>(text.size()) * kCharWidth;
    double x = at.x - (align == Align::kLeft ? 0 : align == Align::kCenter ? width / 2 : width);
    for (const char c : text) {
      const uint8_t* const glyph = kFont[c >= ' ' && c <= '~' ? c - ' ' : '?' - ' '];
      for (int column = 0; column < 5; ++column) {
        for (int row = 0; row < 7; ++row) {
          if ((glyph[column] >> row & 1) == 0) continue;
          Rect({std::round(x) + column, std::round(at.y) - kCapHeight + row}, 1, 1, color);
        }
      }
      x += kCharWidth;
    }
  }

  std::string Finish() override {
    std::string rows;
    rows.reserve(pixels_.size() + static_cast<size_t>(height_));
    for (int y = 0; y < height_; ++y) {
      rows += '\0';  // no filter
      rows.append(pixels_, static_cast<size_t>(y) * static_cast<size_t>(width_) * 3,
                  static_cast<size_t>(width_) * 3);
    }
    uLongf size = compressBound(rows.size());
    std::string data(size, '\0');
    TRIREME_CHECK(compress(reinterpret_cast<Bytef*>(data.data()), &size,
                           reinterpret_cast<const Bytef*>(rows.data()), rows.size()) == Z_OK);
    data.resize(size);
    std::string header;
    AppendBigEndian(static_cast<uint32_t>(width_), &header);
    AppendBigEndian(static_cast<uint32_t>(height_), &header);
    header += std::string_view("\x08\x02\x00\x00\x00", 5);  // 8 bits each of red, green, blue
    std::string png = "\x89PNG\r\n\x1a\n";
    AppendChunk("IHDR", header, &png);
    AppendChunk("IDAT", data, &png);
    AppendChunk("IEND", "", &png);
    return png;
  }

 private:
  template <typename Fn>
  void ForPixels(double left, double top, double right, double bottom, Fn fn) {
    const int x0 = static_cast<int>(std::clamp(std::floor(left), 0.0, double(width_)));
    const int x1 = static_cast<int>(std::clamp(std::ceil(right), -1.0, double(width_ - 1)));
    const int y0 = static_cast<int>(std::clamp(std::floor(top), 0.0, double(height_)));
    const int y1 = static_cast<int>(std::clamp(std::ceil(bottom), -1.0, double(height_ - 1)));
    for (int y = y0; y <= y1; ++y) {
      for (int x = x0; x <= x1; ++x) fn(x, y);
    }
  }

  void Blend(int x, int y, double share, Color color) {
    char* const pixel =
        &pixels_[(static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x)) *
                 3];
    const uint8_t wanted[3] = {color.red, color.green, color.blue};
    for (int i = 0; i < 3; ++i) {
      const double old = static_cast<uint8_t>(pixel[i]);
      pixel[i] = static_cast<char>(std::lround(old + share * (wanted[i] - old)));
    }
  }

  const int width_, height_;
  std::string pixels_;  // rows of RGB, white at first
};

}  // namespace

std::unique_ptr<Canvas> MakePngCanvas(int width, int height) {
  return std::make_unique<PngCanvas>(width, height);
}

}  // namespace trireme::loadgen
