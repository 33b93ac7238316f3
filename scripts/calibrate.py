from training.calibrating import main

if __name__ == "__main__":
    main()
