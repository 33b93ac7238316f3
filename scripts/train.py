from training.fitting import main

if __name__ == "__main__":
    main()
