# Runs inside a session: monthly mean prices of three stocks, as a table and as a chart.
import matplotlib.pyplot as plt
import pandas as pd

prices = pd.read_csv("/mnt/data/stocks.csv", comment="#", parse_dates=["Date"], index_col="Date")
monthly = prices[["IBM", "AAPL", "MSFT"]].resample("M").mean().dropna()

print(f"{len(prices)} rows from {prices.index.min():%Y-%m} to {prices.index.max():%Y-%m}; "
      "monthly means of the last year, in USD:")
print(monthly.tail(12).round(2).to_string())

figure, axes = plt.subplots(figsize=(9, 4.5))
(monthly / monthly.iloc[0]).plot(ax=axes, logy=True, title="Price relative to January 1990")
axes.set_xlabel("")
axes.grid(alpha=0.3)
figure.tight_layout()
figure.savefig("/mnt/data/monthly.png", dpi=110)
plt.close(figure)
